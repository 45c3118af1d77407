#include "config/text_check.h"

#include <catch2/catch.hpp>

namespace latentd {
namespace {

TEST_CASE("text in any script, and Windows line ends, are in order") {
  CHECK(CheckText("", "f").empty());
  CHECK(CheckText("a: b\r\nc: d\r\n", "f").empty());
  CHECK(CheckText("a: \xc3\xa9 \xe2\x82\xac \xf0\x9f\x98\x80 # \xe4\xb8\xad", "f").empty());
  CHECK(CheckText("a: b\tc # a tab inside a line is no indentation", "f").empty());
}

TEST_CASE("every line with a tab in its indentation is a fault at the tab") {
  const auto faults = CheckText("a:\n\tb: 1\n  \tc: 2\n", "f.yaml");
  REQUIRE(faults.size() == 2);
  CHECK(ToString(faults[0]) == "f.yaml:2:1: a tab indents this line: YAML wants spaces");
  CHECK(ToString(faults[1]) == "f.yaml:3:3: a tab indents this line: YAML wants spaces");
}

TEST_CASE("bytes that are not UTF-8 are faults where they stand") {
  for (const std::string bad : {"\xff", "\x80", "\xc3", "\xc0\xaf", "\xe0\x80\xaf", "\xed\xa0\x80",
                                "\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xe2\x82"}) {
    const auto faults = CheckText("ok: 1\nx: " + bad, "f");
    REQUIRE(faults.size() == 1);
    CHECK(faults[0].line == 2);
    CHECK(faults[0].column == 4);
    CHECK(faults[0].message.find("is not UTF-8") != std::string::npos);
  }
}

TEST_CASE("control characters are faults") {
  const auto faults = CheckText(std::string("a\0b\n\x1b[0m\n\x7f", 10), "f");
  REQUIRE(faults.size() == 3);
  CHECK(ToString(faults[0]) == "f:1:2: control character 0x00");
  CHECK(ToString(faults[1]) == "f:2:1: control character 0x1b");
  CHECK(ToString(faults[2]) == "f:3:1: control character 0x7f");
}

TEST_CASE("UTF-16 is told by its first bytes") {
  const auto faults = CheckText(std::string("\xff\xfe"
                                            "a\0",
                                            4),
                                "f");
  REQUIRE(faults.size() == 1);
  CHECK(ToString(faults[0]) == "f:1:1: byte 0xff is not UTF-8");
}

}  // namespace
}  // namespace latentd
