// How one event is written in each style. Pure; any thread.
#ifndef LATENTD_DAEMON_PROCESS_LOG_FORMAT_H_
#define LATENTD_DAEMON_PROCESS_LOG_FORMAT_H_

#include <string>
#include <string_view>

#include "absl/time/time.h"
#include "daemon/process/log.h"

namespace latentd {

// Between message, key, value, key, value... of an event on its way through spdlog. Texts never
// hold it: it is a control character, and those are escaped.
inline constexpr char kLogSeparator = '\x1f';

std::string_view LogSeverityName(LogSeverity severity);

// The event as one string with separators.
std::string PackLogEvent(std::string_view message, std::initializer_list<LogField> fields);

// One line with its newline. `packed` is what PackLogEvent made, or any text without fields.
std::string FormatLogLine(LogStyle style, absl::Time time, LogSeverity severity,
                          std::string_view packed);

}  // namespace latentd

#endif  // LATENTD_DAEMON_PROCESS_LOG_FORMAT_H_
