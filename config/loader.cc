#include "config/loader.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>
#include <fstream>
#include <sstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "config/checks.h"
#include "config/schema.h"
#include "config/text_check.h"

namespace latentd {
namespace {

std::vector<std::string> KnownPaths() {
  std::vector<std::string> paths;
  for (const KeyDoc& key : ConfigDocs()) paths.push_back(key.path);
  return paths;
}

// Finds where a document starts; what is in it does not matter.
class DocumentStart : public YAML::EventHandler {
 public:
  const YAML::Mark& mark() const { return mark_; }

  void OnDocumentStart(const YAML::Mark& mark) override { mark_ = mark; }
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark&, YAML::anchor_t) override {}
  void OnAlias(const YAML::Mark&, YAML::anchor_t) override {}
  void OnScalar(const YAML::Mark&, const std::string&, YAML::anchor_t,
                const std::string&) override {}
  void OnSequenceStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {}
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark&, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {}
  void OnMapEnd() override {}

 private:
  YAML::Mark mark_ = YAML::Mark::null_mark();
};

// A fault if anything follows the first document, which YAML::Load would not look at.
// (YAML::LoadAll would, but yaml-cpp 0.7 finds documents without end in a file that starts with a
// comma.)
void CheckSingleDocument(const std::string& text, Findings& findings) {
  std::istringstream stream(text);
  YAML::Parser parser(stream);
  DocumentStart start;
  if (parser.HandleNextDocument(start) && parser.HandleNextDocument(start)) {
    findings.AddFault(PositionOf(start.mark()), "this belongs to no key of the one YAML document");
  }
}

Config ReadConfig(const std::string& text, Findings& findings) {
  Config config;
  CheckSingleDocument(text, findings);
  const YAML::Node document = YAML::Load(text);
  if (document.IsNull()) {
    findings.AddFault({}, "the file has no keys");
    return config;
  }
  ReadMap(document, "", ConfigSchema(), config, findings);
  CheckConfig(config, findings);
  return config;
}

// Without blank space at the end.
std::string_view Trimmed(std::string_view text) {
  const size_t last = text.find_last_not_of(" \r\n");
  return text.substr(0, last == std::string_view::npos ? 0 : last + 1);
}

// An empty comment at the end makes yaml-cpp 0.7 notice a quote that is never closed, which it
// takes for closed at a last line end, and know where it is when a bracket is never closed.
constexpr std::string_view kEnd = "\n#";

// Just behind the last character.
Position EndOf(std::string_view text) {
  const auto line_ends = std::count(text.begin(), text.end(), '\n');
  const size_t last_line = text.rfind('\n') + 1;  // 0 if there is but one
  return {static_cast<int>(line_ends) + 1, static_cast<int>(text.size() - last_line) + 1};
}

ConfigOrFaults OneFault(std::string_view file, std::string message) {
  return {.config = {}, .faults = {{std::string(file), 1, 1, std::move(message)}}};
}

}  // namespace

absl::Status ConfigOrFaults::status() const {
  if (ok()) return absl::OkStatus();
  std::string lines = ToString(std::span(faults));
  lines.pop_back();  // the last newline
  return absl::InvalidArgumentError(lines);
}

ConfigOrFaults LoadConfig(std::string_view text, std::string_view file) {
  if (text.size() > kMaxConfigBytes) {
    return OneFault(file, absl::StrCat("the file has ", text.size(), " bytes; at most ",
                                       kMaxConfigBytes, " are allowed"));
  }
  if (std::vector<ConfigFault> faults = CheckText(text, file); !faults.empty()) {
    return {.config = {}, .faults = std::move(faults)};
  }
  const std::string_view trimmed = Trimmed(text);
  Findings findings(file, KnownPaths());
  findings.SetEnd(EndOf(trimmed));
  ConfigOrFaults result;
  try {
    result.config = ReadConfig(std::string(trimmed).append(kEnd), findings);
  } catch (const YAML::Exception& error) {
    const Position position = PositionOf(error.mark);
    const Position end = EndOf(trimmed);
    findings.AddFault(position.line > end.line ? end : position,
                      absl::StrCat("not YAML: ", error.msg));
  }
  result.faults = findings.TakeFaults();
  return result;
}

ConfigOrFaults LoadConfigFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  // A folder opens, but cannot be read.
  std::string text;
  if (file) {
    // One byte more than is allowed, so that LoadConfig sees what is too long.
    text.resize(kMaxConfigBytes + 1);
    file.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<size_t>(file.gcount()));
  }
  if (!file.is_open() || file.bad()) {
    return OneFault(path, absl::StrCat("cannot read the file: ", std::strerror(errno)));
  }
  return LoadConfig(text, path);
}

}  // namespace latentd
