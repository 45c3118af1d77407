// `ProgressLine` shows how far a tool has come, on one line that it writes over and over. On a
// terminal only: in a pipe or a log it says nothing. One thread.
#ifndef LATENTD_TOOLS_PROGRESS_LINE_H_
#define LATENTD_TOOLS_PROGRESS_LINE_H_

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <string>

namespace latentd {

class ProgressLine {
 public:
  ProgressLine() : terminal_(isatty(STDERR_FILENO) == 1) {}
  ~ProgressLine() { Clear(); }
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  // At most ten times a second: it may be called as often as one likes.
  void Show(const std::string& text) {
    const auto now = std::chrono::steady_clock::now();
    if (!terminal_ || now - shown_ < std::chrono::milliseconds(100)) return;
    shown_ = now;
    std::fprintf(stderr, "\r\033[K%s", text.c_str());
    std::fflush(stderr);
  }
  // Takes the line away, before other output.
  void Clear() {
    if (terminal_ && shown_ != std::chrono::steady_clock::time_point())
      std::fputs("\r\033[K", stderr);
    shown_ = {};
  }

 private:
  const bool terminal_;
  std::chrono::steady_clock::time_point shown_;
};

}  // namespace latentd

#endif  // LATENTD_TOOLS_PROGRESS_LINE_H_
