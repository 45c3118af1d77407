// The signals that end the daemon. They are blocked in every thread and waited for by one, so that
// no code ever runs inside a signal handler.
//
// SIGTERM, SIGINT: drain and exit; a second one: exit at once. Two that come together, as `timeout`
// sends them, are one while nothing is in flight. SIGHUP: nothing, with a line in the log (the
// configuration is read at the start only; certificates are read again by themselves).
// SIGPIPE: ignored.
#ifndef LATENTD_DAEMON_PROCESS_SIGNALS_H_
#define LATENTD_DAEMON_PROCESS_SIGNALS_H_

#include <cstdint>
#include <functional>
#include <string_view>

namespace latentd {

// Call before the first thread is started: threads inherit the mask.
void BlockSignals();

// Waits for SIGTERM or SIGINT and returns it.
int AwaitTermination();

// From now on SIGTERM and SIGINT end the process at once: with `exit_code` if requests are lost by
// that, of which `in_flight` says the number, else with 0. Starts a thread that is never joined, on
// which `in_flight` is called.
void ExitOnTermination(int exit_code, std::function<uint64_t()> in_flight);

std::string_view SignalName(int signal);

}  // namespace latentd

#endif  // LATENTD_DAEMON_PROCESS_SIGNALS_H_
