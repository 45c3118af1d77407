#include "daemon/process/log_format.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace latentd {
namespace {

bool IsControl(char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }

// JSON's escapes, without the quotes. Bytes above 0x7f are taken for UTF-8.
void AppendEscaped(std::string_view text, std::string& to) {
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      to += '\\';
      to += c;
    } else if (c == '\n') {
      to += "\\n";
    } else if (IsControl(c)) {
      absl::StrAppendFormat(&to, "\\u%04x", static_cast<unsigned char>(c));
    } else {
      to += c;
    }
  }
}

// A message in text: as it is, but on one line.
void AppendOneLine(std::string_view text, std::string& to) {
  for (const char c : text) {
    if (c == '\n') {
      to += "\\n";
    } else if (IsControl(c)) {
      absl::StrAppendFormat(&to, "\\x%02x", static_cast<unsigned char>(c));
    } else {
      to += c;
    }
  }
}

// A field's value in text: quoted if a reader could not tell its end.
void AppendValue(std::string_view value, std::string& to) {
  bool quote = value.empty();
  for (const char c : value) quote = quote || c == ' ' || c == '"' || c == '=' || IsControl(c);
  if (!quote) {
    to += value;
    return;
  }
  to += '"';
  AppendEscaped(value, to);
  to += '"';
}

// sd-daemon(3): the journal reads a line's priority from its front.
std::string_view JournalPriority(LogSeverity severity) {
  switch (severity) {
    case LogSeverity::kTrace:
    case LogSeverity::kDebug:
      return "<7>";
    case LogSeverity::kInfo:
      return "<6>";
    case LogSeverity::kWarn:
      return "<4>";
    case LogSeverity::kError:
      return "<3>";
  }
  return "<6>";
}

std::string Timestamp(absl::Time time) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%E3SZ", time, absl::UTCTimeZone());
}

void AppendText(const std::vector<std::string_view>& parts, std::string& line) {
  AppendOneLine(parts[0], line);
  for (size_t i = 1; i + 1 < parts.size(); i += 2) {
    line += ' ';
    AppendOneLine(parts[i], line);
    line += '=';
    AppendValue(parts[i + 1], line);
  }
}

void AppendJson(absl::Time time, LogSeverity severity, const std::vector<std::string_view>& parts,
                std::string& line) {
  const std::string_view level = LogSeverityName(severity);
  absl::StrAppendFormat(&line, R"({"time":"%s","level":"%s","message":")", Timestamp(time), level);
  AppendEscaped(parts[0], line);
  line += '"';
  for (size_t i = 1; i + 1 < parts.size(); i += 2) {
    line += ",\"";
    AppendEscaped(parts[i], line);
    line += "\":\"";
    AppendEscaped(parts[i + 1], line);
    line += '"';
  }
  line += '}';
}

std::vector<std::string_view> Unpack(std::string_view packed) {
  std::vector<std::string_view> parts;
  for (;;) {
    const size_t end = packed.find(kLogSeparator);
    parts.push_back(packed.substr(0, end));
    if (end == std::string_view::npos) return parts;
    packed.remove_prefix(end + 1);
  }
}

// Keeps separators that a text brings along from being taken for ours.
void AppendWithoutSeparators(std::string_view text, std::string& to) {
  for (const char c : text) to += c == kLogSeparator ? ' ' : c;
}

}  // namespace

std::string_view LogSeverityName(LogSeverity severity) {
  switch (severity) {
    case LogSeverity::kTrace:
      return "trace";
    case LogSeverity::kDebug:
      return "debug";
    case LogSeverity::kInfo:
      return "info";
    case LogSeverity::kWarn:
      return "warn";
    case LogSeverity::kError:
      return "error";
  }
  return "info";
}

std::string PackLogEvent(std::string_view message, std::initializer_list<LogField> fields) {
  std::string packed;
  AppendWithoutSeparators(message, packed);
  for (const LogField& field : fields) {
    packed += kLogSeparator;
    AppendWithoutSeparators(field.key, packed);
    packed += kLogSeparator;
    AppendWithoutSeparators(field.value, packed);
  }
  return packed;
}

std::string FormatLogLine(LogStyle style, absl::Time time, LogSeverity severity,
                          std::string_view packed) {
  const std::vector<std::string_view> parts = Unpack(packed);
  std::string line;
  switch (style) {
    case LogStyle::kText:
      absl::StrAppendFormat(&line, "%s %-5s ", Timestamp(time), LogSeverityName(severity));
      AppendText(parts, line);
      break;
    case LogStyle::kJournal:
      line += JournalPriority(severity);
      AppendText(parts, line);
      break;
    case LogStyle::kJson:
      AppendJson(time, severity, parts, line);
      break;
  }
  line += '\n';
  return line;
}

}  // namespace latentd
