// Random damage to a good file: the loader always ends in a configuration or in faults that say
// where, and what it accepts it can describe and load again. The seeds are fixed, so that a failure
// repeats.
#include <algorithm>
#include <catch2/catch.hpp>
#include <fstream>
#include <random>
#include <sstream>
#include <string>

#include "config/describe.h"
#include "config/loader.h"

namespace latentd {
namespace {

std::string ReadExample() {
  std::ifstream file("config/latentd.example.yaml");
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

// Without most of the explanations, where damage does nothing.
std::string WithoutExplanations(const std::string& text) {
  std::istringstream lines(text);
  std::string kept;
  for (std::string line; std::getline(lines, line);) {
    if (line.find('#') == std::string::npos && !line.empty()) kept += line + "\n";
  }
  return kept;
}

class Damage {
 public:
  explicit Damage(uint32_t seed) : random_(seed) {}

  std::string Apply(std::string text) {
    const size_t changes = 1 + Below(4);
    for (size_t i = 0; i < changes && !text.empty(); ++i) Once(text);
    return text;
  }

 private:
  size_t Below(size_t bound) { return random_() % bound; }

  void Once(std::string& text) {
    static const std::string kPieces[] = {":",
                                          ": ",
                                          "- ",
                                          "[",
                                          "]",
                                          "{",
                                          "}",
                                          ",",
                                          "\n",
                                          "\n  ",
                                          "\t",
                                          "#",
                                          "&a ",
                                          "*a",
                                          "!!int ",
                                          "? ",
                                          "|\n",
                                          ">\n",
                                          "\"",
                                          "'",
                                          "---\n",
                                          "...\n",
                                          "%YAML 1.2\n",
                                          "<<: ",
                                          "~",
                                          "-1",
                                          "1e400",
                                          "99999999999999999999",
                                          std::string("\0", 1),
                                          "\xff",
                                          "\xc3\xa9",
                                          "node: ",
                                          "cuda:"};
    const size_t at = Below(text.size());
    switch (Below(5)) {
      case 0:
        text[at] = static_cast<char>(random_());
        break;
      case 1:
        text.erase(at, 1 + Below(20));
        break;
      case 2:
        text.insert(at, kPieces[Below(std::size(kPieces))]);
        break;
      case 3:  // a piece again, somewhere else
        text.insert(at, text.substr(Below(text.size()), 1 + Below(60)));
        break;
      case 4:
        text.resize(at);
        break;
    }
  }

  std::mt19937 random_;
};

void CheckLoads(const std::string& text) {
  const ConfigOrFaults loaded = LoadConfig(text, "fuzz.yaml");
  const auto lines = static_cast<int>(std::count(text.begin(), text.end(), '\n')) + 1;
  for (const ConfigFault& fault : loaded.faults) {
    CHECK(fault.file == "fuzz.yaml");
    CHECK(fault.line >= 1);
    CHECK(fault.line <= lines);
    CHECK(fault.column >= 1);
    CHECK_FALSE(fault.message.empty());
  }
  if (!loaded.ok()) return;
  const ConfigOrFaults again = LoadConfig(Describe(loaded.config), "described.yaml");
  INFO(ToString(std::span(again.faults)));
  CHECK(again.config == loaded.config);
}

TEST_CASE("a damaged file never crashes the loader and every fault has a position") {
  const std::string example = WithoutExplanations(ReadExample());
  REQUIRE(LoadConfig(example, "example").ok());
  for (uint32_t seed = 0; seed < 3000; ++seed) {
    INFO("seed " << seed);
    CheckLoads(Damage(seed).Apply(example));
  }
}

TEST_CASE("a file cut off anywhere never crashes the loader") {
  const std::string example = WithoutExplanations(ReadExample());
  for (size_t length = 0; length < example.size(); length += 3) {
    INFO("length " << length);
    CheckLoads(example.substr(0, length));
  }
}

TEST_CASE("noise never crashes the loader") {
  std::mt19937 random(7);
  const std::string alphabet = "abn:-[]{},\n #&*!|>'\"%@`?~0.";
  for (int i = 0; i < 3000; ++i) {
    std::string text(random() % 60, ' ');
    for (char& c : text) c = alphabet[random() % alphabet.size()];
    INFO(text);
    CheckLoads(text);
  }
}

}  // namespace
}  // namespace latentd
