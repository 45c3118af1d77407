// The daemon's log: one event a line on stderr, as text or JSON.
//
// An event is a message that never varies and fields that do, so that both people and queries find
// it:
//     LogInfo("session opened", {{"client", name}, {"tenant", tenant}});
//     2026-01-02T03:04:05.678Z info  session opened client=vllm-0 tenant=default
//     {"time":"2026-01-02T03:04:05.678Z","level":"info","message":"session
//     opened","client":"vllm-0",...}
// Under systemd, text lines carry a syslog priority in place of the time and level, which the
// journal knows better.
//
// Any thread, before StartLogging too (text, info, written before the call returns). From then on a
// thread of its own writes: logging never waits for whoever reads the log, and what nobody reads in
// time is dropped, oldest first, and counted in a line of its own. Not for the request path
// nevertheless: it formats and locks. Values may be anything: control characters never reach the
// stream. Plain spdlog calls land in the same log.
#ifndef LATENTD_DAEMON_PROCESS_LOG_H_
#define LATENTD_DAEMON_PROCESS_LOG_H_

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "absl/strings/str_cat.h"

namespace latentd {

enum class LogSeverity { kTrace, kDebug, kInfo, kWarn, kError };

enum class LogStyle {
  kText,
  kJournal,  // text for systemd's journal
  kJson,
};

struct LogField {
  std::string_view key;  // lower_case
  std::string value;

  LogField(std::string_view k, std::string_view v) : key(k), value(v) {}
  LogField(std::string_view k, const std::string& v) : key(k), value(v) {}
  LogField(std::string_view k, const char* v) : key(k), value(v) {}
  template <typename Number>
  LogField(std::string_view k, Number v) : key(k), value(absl::StrCat(v)) {}
};

// Takes effect for everything logged from now on, by whatever thread. Once, and not before a fork.
void StartLogging(LogSeverity least, LogStyle style);

// Before the process ends: gives the lines that are queued half a second to be written.
void FlushLog();

// Whether stderr is a stream of systemd's journal.
bool StderrIsJournal();

void LogEvent(LogSeverity severity, std::string_view message,
              std::initializer_list<LogField> fields = {});

inline void LogDebug(std::string_view message, std::initializer_list<LogField> fields = {}) {
  LogEvent(LogSeverity::kDebug, message, fields);
}
inline void LogInfo(std::string_view message, std::initializer_list<LogField> fields = {}) {
  LogEvent(LogSeverity::kInfo, message, fields);
}
inline void LogWarn(std::string_view message, std::initializer_list<LogField> fields = {}) {
  LogEvent(LogSeverity::kWarn, message, fields);
}
inline void LogError(std::string_view message, std::initializer_list<LogField> fields = {}) {
  LogEvent(LogSeverity::kError, message, fields);
}

}  // namespace latentd

#endif  // LATENTD_DAEMON_PROCESS_LOG_H_
