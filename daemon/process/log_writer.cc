#include "daemon/process/log_writer.h"

#include <poll.h>
#include <unistd.h>

#include <cerrno>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <string_view>
#include <thread>
#include <utility>

namespace latentd {
namespace {

// A descriptor that cannot be written to loses the line: there is nobody to tell.
void WriteWhole(int descriptor, std::string_view line) {
  while (!line.empty()) {
    const ssize_t written = write(descriptor, line.data(), line.size());
    if (written >= 0) {
      line.remove_prefix(static_cast<size_t>(written));
    } else if (errno == EAGAIN) {
      pollfd writable{.fd = descriptor, .events = POLLOUT, .revents = 0};
      poll(&writable, 1, -1);
    } else if (errno != EINTR) {
      return;
    }
  }
}

}  // namespace

struct LogWriter::State {
  int descriptor;
  size_t max_lines;
  std::function<std::string(uint64_t)> tell_dropped;
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::string> lines;
  uint64_t dropped = 0;
  bool writing = false;
  bool over = false;
};

LogWriter::LogWriter(int descriptor, size_t max_lines,
                     std::function<std::string(uint64_t)> tell_dropped)
    : state_(std::make_shared<State>()) {
  state_->descriptor = descriptor;
  state_->max_lines = max_lines;
  state_->tell_dropped = std::move(tell_dropped);
  std::thread([state = state_] { Run(*state); }).detach();
}

LogWriter::~LogWriter() {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  state_->over = true;
  state_->changed.notify_all();
}

void LogWriter::Write(std::string line) {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  if (state_->lines.size() >= state_->max_lines) {
    state_->lines.pop_front();
    ++state_->dropped;
  }
  state_->lines.push_back(std::move(line));
  state_->changed.notify_all();
}

bool LogWriter::Flush(absl::Duration patience) {
  std::unique_lock<std::mutex> lock(state_->mutex);
  return state_->changed.wait_for(lock, absl::ToChronoMilliseconds(patience),
                                  [&] { return state_->lines.empty() && !state_->writing; });
}

void LogWriter::Run(State& state) {
  std::unique_lock<std::mutex> lock(state.mutex);
  for (;;) {
    state.changed.wait(lock, [&] { return state.over || !state.lines.empty(); });
    if (state.over) return;
    const uint64_t dropped = std::exchange(state.dropped, 0);
    const std::string line = std::move(state.lines.front());
    state.lines.pop_front();
    state.writing = true;
    lock.unlock();
    if (dropped > 0) WriteWhole(state.descriptor, state.tell_dropped(dropped));
    WriteWhole(state.descriptor, line);
    lock.lock();
    state.writing = false;
    state.changed.notify_all();
  }
}

}  // namespace latentd
