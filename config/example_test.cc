// Keeps latentd.example.yaml in step with the schema.
#include <yaml-cpp/yaml.h>

#include <catch2/catch.hpp>
#include <fstream>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "config/loader.h"
#include "config/schema.h"

namespace latentd {
namespace {

constexpr char kExample[] = "config/latentd.example.yaml";

std::string ReadExample() {
  std::ifstream file(kExample);
  std::ostringstream text;
  text << file.rdbuf();
  REQUIRE_FALSE(text.str().empty());
  return text.str();
}

// "#key: value" and "#  # explanation" are commented out; "# explanation" is not.
std::string Uncommented(const std::string& text) {
  std::vector<std::string> lines = absl::StrSplit(text, '\n');
  for (std::string& line : lines) {
    const size_t hash = line.find_first_not_of(' ');
    if (hash == std::string::npos || line[hash] != '#') continue;
    const std::string rest = line.substr(hash + 1);
    const bool explanation = rest.empty() || (rest[0] == ' ' && rest.size() > 1 && rest[1] != ' ');
    if (!explanation) line.erase(hash, 1);
  }
  return absl::StrJoin(lines, "\n");
}

// All explanations as one text with single blanks.
std::string Explanations(const std::string& text) {
  std::string all;
  for (const std::string& line : std::vector<std::string>(absl::StrSplit(text, '\n'))) {
    const size_t hash = line.find_first_not_of(' ');
    if (hash == std::string::npos || line[hash] != '#') continue;
    all += line.substr(hash + 1);
  }
  return all;
}

void CollectPaths(const YAML::Node& node, const std::string& path, std::set<std::string>& paths) {
  if (node.IsMap()) {
    for (const auto& entry : node) {
      const std::string inside = JoinPath(path, entry.first.Scalar());
      paths.insert(inside);
      CollectPaths(entry.second, inside, paths);
    }
  } else if (node.IsSequence()) {
    for (const auto& element : node) CollectPaths(element, path + "[]", paths);
  }
}

TEST_CASE("the example loads") {
  const ConfigOrFaults loaded = LoadConfigFile(kExample);
  CHECK(ToString(std::span(loaded.faults)) == "");
}

TEST_CASE("the example's values are the defaults") {
  const ConfigOrFaults minimal = LoadConfig(
      "node: { id: node-a }\ndata: { lanes: [{ device: cpu, cache: 1GiB }] }\n"
      "model: deepseek-v3\n",
      "minimal");
  CHECK(LoadConfigFile(kExample).config == minimal.config);
}

TEST_CASE("the example shows every key of the schema and no other") {
  std::set<std::string> shown;
  CollectPaths(YAML::Load(Uncommented(ReadExample())), "", shown);
  std::set<std::string> known;
  for (const KeyDoc& key : ConfigDocs()) known.insert(key.path);
  CHECK(absl::StrJoin(shown, "\n") == absl::StrJoin(known, "\n"));
}

TEST_CASE("the example explains every key in the schema's words") {
  const std::string explanations = Explanations(Uncommented(ReadExample()));
  for (const KeyDoc& key : ConfigDocs()) {
    INFO(key.path);
    CHECK(explanations.find(" " + key.doc) != std::string::npos);
  }
}

TEST_CASE("every key has an explanation that is a sentence") {
  for (const KeyDoc& key : ConfigDocs()) {
    INFO(key.path);
    CHECK(key.doc.size() > 8);
    CHECK(key.doc.back() == '.');
  }
}

TEST_CASE("what the example has commented out is right too") {
  const std::string text = ReadExample();
  // The map of the model in the place of the preset; etcd's keys do no harm under static.
  std::string all = Uncommented(text);
  const size_t preset = all.find("\nmodel: deepseek-v3\n");
  REQUIRE(preset != std::string::npos);
  all.erase(preset, std::string("\nmodel: deepseek-v3").size());
  const ConfigOrFaults loaded = LoadConfig(all, "uncommented");
  CHECK(ToString(std::span(loaded.faults)) == "");
  CHECK(loaded.config.model.softmax_scale ==
        Approx(SoftmaxScaleRule(loaded.config.model)).epsilon(1e-4));
}

}  // namespace
}  // namespace latentd
