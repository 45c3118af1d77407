#include "daemon/process/log.h"

#include <spdlog/formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <mutex>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "daemon/process/log_format.h"
#include "daemon/process/log_writer.h"

namespace latentd {
namespace {

spdlog::level::level_enum ToSpdlog(LogSeverity severity) {
  switch (severity) {
    case LogSeverity::kTrace:
      return spdlog::level::trace;
    case LogSeverity::kDebug:
      return spdlog::level::debug;
    case LogSeverity::kInfo:
      return spdlog::level::info;
    case LogSeverity::kWarn:
      return spdlog::level::warn;
    case LogSeverity::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

LogSeverity FromSpdlog(spdlog::level::level_enum level) {
  switch (level) {
    case spdlog::level::trace:
      return LogSeverity::kTrace;
    case spdlog::level::debug:
      return LogSeverity::kDebug;
    case spdlog::level::warn:
      return LogSeverity::kWarn;
    case spdlog::level::err:
    case spdlog::level::critical:
      return LogSeverity::kError;
    default:
      return LogSeverity::kInfo;
  }
}

class EventFormatter : public spdlog::formatter {
 public:
  explicit EventFormatter(LogStyle style) : style_(style) {}

  void format(const spdlog::details::log_msg& event, spdlog::memory_buf_t& to) override {
    const std::string line =
        FormatLogLine(style_, absl::FromChrono(event.time), FromSpdlog(event.level),
                      std::string_view(event.payload.data(), event.payload.size()));
    to.append(line.data(), line.data() + line.size());
  }
  std::unique_ptr<spdlog::formatter> clone() const override {
    return std::make_unique<EventFormatter>(style_);
  }

 private:
  LogStyle style_;
};

// Some megabytes of lines while nobody reads them.
constexpr size_t kMaxQueuedLines = 8192;

// Never deleted: the process may end while others log.
LogWriter* writer = nullptr;

class WriterSink : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit WriterSink(LogWriter* to) : to_(to) {}

 private:
  void sink_it_(const spdlog::details::log_msg& event) override {
    spdlog::memory_buf_t line;
    formatter_->format(event, line);
    to_->Write(std::string(line.data(), line.size()));
  }
  void flush_() override {}

  LogWriter* const to_;
};

std::string TellDropped(LogStyle style, uint64_t lines) {
  return FormatLogLine(
      style, absl::Now(), LogSeverity::kWarn,
      PackLogEvent("log lines were dropped: nobody read them in time", {{"lines", lines}}));
}

std::shared_ptr<spdlog::logger> MakeLogger(spdlog::sink_ptr sink, LogSeverity least,
                                           LogStyle style) {
  auto logger = std::make_shared<spdlog::logger>("latentd", std::move(sink));
  logger->set_formatter(std::make_unique<EventFormatter>(style));
  logger->set_level(ToSpdlog(least));
  logger->flush_on(spdlog::level::trace);
  return logger;
}

// spdlog's own default logger writes to stdout, which belongs to what a command was asked to print.
[[maybe_unused]] const bool kDefaultReplaced = [] {
  spdlog::set_default_logger(MakeLogger(std::make_shared<spdlog::sinks::stderr_sink_mt>(),
                                        LogSeverity::kInfo, LogStyle::kText));
  return true;
}();

}  // namespace

void StartLogging(LogSeverity least, LogStyle style) {
  writer = new LogWriter(STDERR_FILENO, kMaxQueuedLines,
                         [style](uint64_t lines) { return TellDropped(style, lines); });
  spdlog::set_default_logger(MakeLogger(std::make_shared<WriterSink>(writer), least, style));
}

void FlushLog() {
  constexpr absl::Duration kPatience = absl::Milliseconds(500);
  if (writer != nullptr) writer->Flush(kPatience);
}

bool StderrIsJournal() {
  // systemd.exec(5): "<device>:<inode>" of the stream that the journal reads.
  const char* stream = std::getenv("JOURNAL_STREAM");
  struct stat status;
  if (stream == nullptr || fstat(STDERR_FILENO, &status) != 0) return false;
  return stream == absl::StrCat(status.st_dev, ":", status.st_ino);
}

void LogEvent(LogSeverity severity, std::string_view message,
              std::initializer_list<LogField> fields) {
  spdlog::logger* logger = spdlog::default_logger_raw();
  const spdlog::level::level_enum level = ToSpdlog(severity);
  if (!logger->should_log(level)) return;
  const std::string packed = PackLogEvent(message, fields);
  logger->log(level, spdlog::string_view_t(packed.data(), packed.size()));
}

}  // namespace latentd
