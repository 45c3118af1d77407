#include "config/findings.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace latentd {
namespace {

// Whether `path` is `enclosing` or in it. The empty path is the whole file.
bool IsWithin(std::string_view path, std::string_view enclosing) {
  if (enclosing.empty()) return true;
  if (path.substr(0, enclosing.size()) != enclosing) return false;
  return path.size() == enclosing.size() || path[enclosing.size()] == '.' ||
         path[enclosing.size()] == '[';
}

}  // namespace

std::optional<std::string> Findings::KnownPathOf(std::string_view name) const {
  std::optional<std::string> found;
  for (const std::string& path : known_paths_) {
    if (path.substr(path.rfind('.') + 1) != name) continue;
    if (found) return std::nullopt;
    found = path;
  }
  return found;
}

void Findings::AddFault(Position position, std::string message) {
  if (end_ && position.line > end_->line) position = *end_;
  faults_.push_back({file_, position.line, position.column, std::move(message)});
}

void Findings::AddFaultOf(const std::string& path, Position position, std::string message) {
  unknown_.insert(path);
  AddFault(position, std::move(message));
}

bool Findings::IsKnown(const std::string& path) const {
  return std::none_of(unknown_.begin(), unknown_.end(), [&](const std::string& unknown) {
    return IsWithin(unknown, path) || IsWithin(path, unknown);
  });
}

void Findings::AddFaultAt(const std::string& path, std::string_view message) {
  Position position;
  for (std::string enclosing = path;;) {
    if (const auto found = positions_.find(enclosing); found != positions_.end()) {
      position = found->second;
      break;
    }
    const size_t end = enclosing.find_last_of(".[");
    if (end == std::string::npos) break;
    enclosing.resize(end);
  }
  AddFault(position, absl::StrCat(path, ": ", std::string(message)));
}

std::vector<ConfigFault> Findings::TakeFaults() {
  // Stable: of two faults at one place the first found is told first.
  std::stable_sort(faults_.begin(), faults_.end(), [](const ConfigFault& a, const ConfigFault& b) {
    return std::pair(a.line, a.column) < std::pair(b.line, b.column);
  });
  return std::exchange(faults_, {});
}

}  // namespace latentd
