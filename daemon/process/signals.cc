#include "daemon/process/signals.h"

#include <unistd.h>
#include <csignal>
#include <thread>
#include <utility>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "daemon/process/log.h"

namespace latentd {
namespace {

// Signals that come within this time were meant as one.
constexpr absl::Duration kTogether = absl::Milliseconds(200);

sigset_t WaitedFor() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGHUP);
  return set;
}

}  // namespace

void BlockSignals() {
  const sigset_t set = WaitedFor();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  // A peer that closes its socket is an error of that write, not of the process.
  std::signal(SIGPIPE, SIG_IGN);
}

int AwaitTermination() {
  const sigset_t set = WaitedFor();
  for (;;) {
    int signal = 0;
    if (sigwait(&set, &signal) != 0) continue;
    if (signal != SIGHUP) return signal;
    LogWarn("SIGHUP ignored: the configuration is read at the start only");
  }
}

void ExitOnTermination(int exit_code, std::function<uint64_t()> in_flight) {
  std::thread([exit_code, in_flight = std::move(in_flight)] {
    const absl::Time began = absl::Now();
    int signal = AwaitTermination();
    uint64_t lost = in_flight();
    while (lost == 0 && absl::Now() - began < kTogether) {
      signal = AwaitTermination();
      lost = in_flight();
    }
    if (lost == 0) {
      LogWarn("exiting at once: nothing was in flight", {{"signal", SignalName(signal)}});
      FlushLog();
      _exit(0);
    }
    LogError("exiting at once: requests in flight are lost",
             {{"signal", SignalName(signal)}, {"requests_in_flight", lost}});
    FlushLog();
    // Not exit(): destructors would wait for the very things that a second signal means to leave
    // behind.
    _exit(exit_code);
  }).detach();
}

std::string_view SignalName(int signal) {
  switch (signal) {
    case SIGTERM:
      return "SIGTERM";
    case SIGINT:
      return "SIGINT";
    case SIGHUP:
      return "SIGHUP";
    default:
      return "signal";
  }
}

}  // namespace latentd
