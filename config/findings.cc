#include "config/findings.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"

namespace latentd {

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
