#include "daemon/process/log.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

#include "daemon/process/log_format.h"

namespace latentd {
namespace {

const absl::Time kTime = absl::FromUnixMillis(1767323045678);  // 2026-01-02T03:04:05.678Z

TEST_CASE("a text line is time, level, message and fields") {
  const std::string packed = PackLogEvent("session opened", {{"client", "vllm-0"}, {"lane", 2}});
  CHECK(FormatLogLine(LogStyle::kText, kTime, LogSeverity::kInfo, packed) ==
        "2026-01-02T03:04:05.678Z info  session opened client=vllm-0 lane=2\n");
}

TEST_CASE("values that could be misread are quoted") {
  const std::string packed =
      PackLogEvent("closed", {{"reason", "timed out"}, {"client", ""}, {"path", "a\"b"}});
  CHECK(FormatLogLine(LogStyle::kJournal, kTime, LogSeverity::kWarn, packed) ==
        "<4>closed reason=\"timed out\" client=\"\" path=\"a\\\"b\"\n");
}

TEST_CASE("no value can break a line or forge a field") {
  const std::string evil = "x\nfake line\x1fuser\x1froot\x1b[31m";
  for (const LogStyle style : {LogStyle::kText, LogStyle::kJournal, LogStyle::kJson}) {
    const std::string packed = PackLogEvent(evil, {{"client", evil}});
    const std::string line = FormatLogLine(style, kTime, LogSeverity::kInfo, packed);
    CHECK(line.find('\n') == line.size() - 1);
    CHECK(line.find('\x1b') == std::string::npos);
    CHECK(line.find("user=") == std::string::npos);
    CHECK(line.find("\"user\"") == std::string::npos);
  }
}

TEST_CASE("a JSON line parses and keeps every value") {
  const std::string value = "quote \" backslash \\ newline \n tab \t bell \a, utf-8 \xc3\xa9";
  const std::string line =
      FormatLogLine(LogStyle::kJson, kTime, LogSeverity::kError, PackLogEvent("m", {{"v", value}}));
  const nlohmann::json json = nlohmann::json::parse(line);
  CHECK(json["v"] == value);
  CHECK(json["message"] == "m");
  CHECK(json["level"] == "error");
  CHECK(json["time"] == "2026-01-02T03:04:05.678Z");
}

}  // namespace
}  // namespace latentd
