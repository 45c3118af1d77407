// `LogWriter` writes lines to a descriptor from a thread of its own, so that nobody who logs ever
// waits for whoever reads the log. Lines that find the queue full push out the oldest; how many went
// that way is written where they are missing.
//
// Any thread. Its end does not wait for what is still queued, or for a write that nobody reads: that
// thread is left behind, and ends after it. Flush first. The descriptor must stay open.
#ifndef LATENTD_DAEMON_PROCESS_LOG_WRITER_H_
#define LATENTD_DAEMON_PROCESS_LOG_WRITER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/time/time.h"

namespace latentd {

class LogWriter {
 public:
  // `tell_dropped` makes the line that says how many are missing; on the writer's thread.
  LogWriter(int descriptor, size_t max_lines, std::function<std::string(uint64_t)> tell_dropped);
  ~LogWriter();
  LogWriter(const LogWriter&) = delete;
  LogWriter& operator=(const LogWriter&) = delete;

  // Takes a line with its newline. Never blocks.
  void Write(std::string line);

  // Until every line taken so far is written, at most for `patience`. Whether they are.
  bool Flush(absl::Duration patience);

 private:
  struct State;

  static void Run(State& state);

  const std::shared_ptr<State> state_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_PROCESS_LOG_WRITER_H_
