// `Process` is a child process of a test: started from an argument list, its output kept in files,
// killed and reaped with the object at the latest (and by the kernel if the test itself dies).
//
// Not synchronised. Start children from a thread that outlives them: the kernel ends a child when
// the thread that started it ends.
#ifndef LATENTD_TESTS_CLUSTER_PROCESS_H_
#define LATENTD_TESTS_CLUSTER_PROCESS_H_

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace latentd::testing {

// How a process ended.
struct ProcessEnd {
  int exit_code = -1;  // -1: ended by a signal
  int signal = 0;
};

// What the kernel says of a running process.
struct ProcessUse {
  uint64_t rss_bytes = 0;
  uint32_t fds = 0;
  uint32_t threads = 0;
  absl::Duration cpu;  // user and system, all threads
};

class Process {
 public:
  // Starts argv[0]. Output goes to `output_stem`.out and `output_stem`.err, appended. Throws
  // std::runtime_error when the program cannot be started.
  Process(const std::vector<std::string>& argv, const std::string& output_stem);
  Process(Process&& other) noexcept;
  Process& operator=(Process&& other) noexcept;
  ~Process();

  pid_t pid() const { return pid_; }
  bool Running();
  // No-op once it has ended.
  void Signal(int signal);
  // SIGSTOP, and waits until every thread has stopped.
  void Freeze();
  // Waits at most `limit`; nothing if it still runs then.
  std::optional<ProcessEnd> WaitForEnd(absl::Duration limit);
  // SIGKILL, and waits for the end.
  void Kill();

  // Throws std::runtime_error when it does not run.
  ProcessUse Use() const;

  std::string Out() const;
  std::string Err() const;

 private:
  bool Reap(bool block);

  pid_t pid_ = -1;
  std::optional<ProcessEnd> end_;
  std::string out_path_;
  std::string err_path_;
};

// A command that runs to its end.
struct CommandResult {
  ProcessEnd end;
  bool timed_out = false;  // and was killed
  std::string out;
  std::string err;
};
CommandResult RunCommand(const std::vector<std::string>& argv, absl::Duration limit);

// A file that Bazel put beside the test, by its path in the tree ("daemon/latentd").
std::string Runfile(const std::string& path);

// A fresh folder of this test process for files named after `stem`.
std::string FreshFolder(const std::string& stem);

std::string ReadFile(const std::string& path);
void WriteFile(const std::string& path, const std::string& text);

}  // namespace latentd::testing

#endif  // LATENTD_TESTS_CLUSTER_PROCESS_H_
