#include "daemon/process/signals.h"

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch.hpp>
#include <chrono>
#include <csignal>
#include <thread>
#include <utility>

#include "daemon/process/log.h"

namespace latentd {
namespace {

// A child process that runs `body`, and a pipe on which it tells how far it is.
template <typename Body>
class Child {
 public:
  explicit Child(Body body) {
    REQUIRE(pipe(pipe_) == 0);
    pid_ = fork();
    REQUIRE(pid_ >= 0);
    if (pid_ != 0) return;
    body([this](char step) { (void)!write(pipe_[1], &step, 1); });
    _exit(0);
  }
  ~Child() {
    close(pipe_[0]);
    close(pipe_[1]);
  }

  void Signal(int signal) const { kill(pid_, signal); }
  char NextStep() const {
    char step = 0;
    return read(pipe_[0], &step, 1) == 1 ? step : '\0';
  }
  // The exit code; -1 if a signal ended it.
  int Wait() const {
    int status = 0;
    waitpid(pid_, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  }

 private:
  int pipe_[2];
  pid_t pid_ = 0;
};

TEST_CASE("SIGTERM and SIGINT are waited for, SIGHUP changes nothing") {
  for (const int wanted : {SIGTERM, SIGINT}) {
    const Child child([](auto tell) {
      BlockSignals();
      tell('r');
      _exit(AwaitTermination());
    });
    CHECK(child.NextStep() == 'r');
    child.Signal(SIGHUP);
    child.Signal(wanted);
    CHECK(child.Wait() == wanted);
  }
}

TEST_CASE("a second signal ends the process at once, with the given code if requests are lost") {
  for (const auto& [in_flight, code] : {std::pair{1, 7}, std::pair{0, 0}}) {
    const Child child([in_flight = in_flight](auto tell) {
      BlockSignals();
      tell('r');
      AwaitTermination();
      ExitOnTermination(7, [in_flight] { return in_flight; });
      tell('d');
      for (;;) pause();
    });
    CHECK(child.NextStep() == 'r');
    child.Signal(SIGTERM);
    CHECK(child.NextStep() == 'd');
    if (in_flight == 0) std::this_thread::sleep_for(std::chrono::milliseconds(300));
    child.Signal(SIGTERM);
    CHECK(child.Wait() == code);
  }
}

TEST_CASE("a second signal ends the process though nobody reads its log") {
  const Child child([](auto tell) {
    BlockSignals();
    int full[2];
    if (pipe(full) != 0) _exit(2);
    fcntl(full[1], F_SETFL, O_NONBLOCK);
    while (write(full[1], "x", 1) == 1) {
    }
    fcntl(full[1], F_SETFL, 0);
    dup2(full[1], STDERR_FILENO);
    StartLogging(LogSeverity::kInfo, LogStyle::kText);
    LogInfo("never read");
    ExitOnTermination(7, [] { return 1; });
    tell('d');
    for (;;) pause();
  });
  CHECK(child.NextStep() == 'd');
  child.Signal(SIGTERM);
  CHECK(child.Wait() == 7);
}

TEST_CASE("two signals that come together are one while nothing is in flight") {
  const Child child([](auto tell) {
    BlockSignals();
    tell('r');
    AwaitTermination();
    std::atomic<bool> asked = false;
    ExitOnTermination(7, [&asked] {
      asked = true;
      return 0;
    });
    kill(getpid(), SIGINT);
    while (!asked) std::this_thread::yield();
    _exit(5);  // as if it had stopped in order
  });
  CHECK(child.NextStep() == 'r');
  child.Signal(SIGTERM);
  CHECK(child.Wait() == 5);
}

TEST_CASE("a signal that comes before anybody waits is not lost") {
  const Child child([](auto) {
    BlockSignals();
    raise(SIGTERM);
    _exit(AwaitTermination());
  });
  CHECK(child.Wait() == SIGTERM);
}

TEST_CASE("a peer that hangs up does not end the process") {
  const Child child([](auto) {
    BlockSignals();
    int ends[2];
    if (pipe(ends) != 0) _exit(2);
    close(ends[0]);
    _exit(write(ends[1], "x", 1) < 0 ? 3 : 4);
  });
  CHECK(child.Wait() == 3);
}

}  // namespace
}  // namespace latentd
