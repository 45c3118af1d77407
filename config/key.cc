#include "config/key.h"

#include <algorithm>
#include <string_view>

#include "config/suggest.h"

namespace latentd {
namespace {

std::string_view KindName(const YAML::Node& node) {
  switch (node.Type()) {
    case YAML::NodeType::Map:
      return "a map";
    case YAML::NodeType::Sequence:
      return "a list";
    case YAML::NodeType::Scalar:
      return "a single value";
    default:
      return "empty";
  }
}

// The map at the root has the empty path.
std::string NameOf(const std::string& path) { return path.empty() ? "the file" : path; }

absl::Status WrongKind(const YAML::Node& node, std::string_view wanted) {
  if (node.IsNull()) return absl::InvalidArgumentError("has no value");
  return absl::InvalidArgumentError(
      absl::StrCat("is ", std::string(KindName(node)), ", not ", std::string(wanted)));
}

void AddUnknownKey(const std::string& path, const std::string& name,
                   const std::vector<std::string>& siblings, Position position,
                   Findings& findings) {
  const std::string message =
      absl::StrCat("unknown key '", name, "'", path.empty() ? "" : absl::StrCat(" in ", path));
  if (const std::optional<std::string> sibling = Nearest(name, siblings)) {
    findings.AddFaultOf(JoinPath(path, *sibling), position,
                        absl::StrCat(message, " (did you mean '", *sibling, "'?)"));
  } else if (const std::optional<std::string> elsewhere = findings.KnownPathOf(name)) {
    findings.AddFaultOf(*elsewhere, position,
                        absl::StrCat(message, " (did you mean ", *elsewhere, "?)"));
  } else {
    findings.AddFault(position, message);
  }
}

}  // namespace

Position PositionOf(const YAML::Mark& mark) {
  return {std::max(mark.line, 0) + 1, std::max(mark.column, 0) + 1};
}

Position PositionOf(const YAML::Node& node) { return PositionOf(node.Mark()); }

std::string JoinPath(const std::string& path, const std::string& key) {
  return path.empty() ? key : absl::StrCat(path, ".", key);
}

std::string ElementPath(const std::string& path, size_t index) {
  return absl::StrCat(path, "[", index, "]");
}

std::optional<std::string> ReadScalarText(const YAML::Node& value, const std::string& path,
                                          bool quotes_allowed, Findings& findings) {
  if (!value.IsScalar()) {
    findings.AddFaultOf(
        path, PositionOf(value),
        absl::StrCat(NameOf(path), ": ", WrongKind(value, "a single value").message()));
    return std::nullopt;
  }
  // yaml-cpp tags plain scalars "?" and quoted ones "!".
  if (!quotes_allowed && value.Tag() == "!") {
    findings.AddFaultOf(
        path, PositionOf(value),
        absl::StrCat(path, ": '", value.Scalar(), "' is in quotes: write it without"));
    return std::nullopt;
  }
  return value.Scalar();
}

std::optional<std::vector<YAML::Node>> ReadElements(const YAML::Node& value,
                                                    const std::string& path, size_t min, size_t max,
                                                    Findings& findings) {
  absl::Status fault;
  if (!value.IsSequence()) {
    fault = WrongKind(value, "a list");
  } else if (value.size() < min || value.size() > max) {
    fault = absl::InvalidArgumentError(
        absl::StrCat("has ", value.size(), " elements; it must have ", min, " to ", max));
  }
  if (!fault.ok()) {
    findings.AddFaultOf(path, PositionOf(value), absl::StrCat(path, ": ", fault.message()));
    return std::nullopt;
  }
  return std::vector<YAML::Node>(value.begin(), value.end());
}

std::map<std::string, YAML::Node> ReadEntries(
    const YAML::Node& value, const std::string& path,
    const std::vector<std::pair<std::string, Presence>>& known, Findings& findings) {
  std::map<std::string, YAML::Node> entries;
  if (!value.IsMap()) {
    findings.AddFaultOf(
        path, PositionOf(value),
        absl::StrCat(NameOf(path), ": ", WrongKind(value, "a map of keys").message()));
    return entries;
  }
  std::vector<std::string> names;
  for (const auto& [name, presence] : known) names.push_back(name);
  std::map<std::string, int> first_line;
  for (const auto& entry : value) {
    const Position position = PositionOf(entry.first);
    if (!entry.first.IsScalar()) {
      findings.AddFault(position, absl::StrCat(NameOf(path), ": a key that is ",
                                               std::string(KindName(entry.first))));
      continue;
    }
    const std::string& name = entry.first.Scalar();
    const auto [first, fresh] = first_line.emplace(name, position.line);
    if (!fresh) {
      findings.AddFaultOf(JoinPath(path, name), position,
                          absl::StrCat("duplicate key '", JoinPath(path, name), "', first on line ",
                                       first->second));
    } else if (std::find(names.begin(), names.end(), name) == names.end()) {
      AddUnknownKey(path, name, names, position, findings);
    } else {
      findings.NotePosition(JoinPath(path, name), PositionOf(entry.second));
      entries.emplace(name, entry.second);
    }
  }
  for (const auto& [name, presence] : known) {
    if (presence == Presence::kRequired && !entries.contains(name)) {
      findings.AddFaultOf(JoinPath(path, name), PositionOf(value),
                          absl::StrCat(JoinPath(path, name), " is missing"));
    }
  }
  return entries;
}

}  // namespace latentd
