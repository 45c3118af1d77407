#include "config/suggest.h"

#include <algorithm>

#include "absl/strings/ascii.h"

namespace latentd {
namespace {

char Folded(char c) { return c == '-' ? '_' : absl::ascii_tolower(static_cast<unsigned char>(c)); }

}  // namespace

size_t EditDistance(std::string_view a, std::string_view b) {
  // Three rows of the usual table: distances between the first i letters of `a` and j of `b`.
  std::vector<size_t> before_last(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    before_last.swap(last);
    last.swap(row);
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const bool same = Folded(a[i - 1]) == Folded(b[j - 1]);
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (same ? 0 : 1)});
      const bool swapped = i > 1 && j > 1 && Folded(a[i - 1]) == Folded(b[j - 2]) &&
                           Folded(a[i - 2]) == Folded(b[j - 1]);
      if (swapped) row[j] = std::min(row[j], before_last[j - 2] + 1);
    }
  }
  return row[b.size()];
}

std::optional<std::string> Nearest(std::string_view text, const std::vector<std::string>& names) {
  std::optional<std::string> nearest;
  size_t nearest_distance = 0;
  for (const std::string& name : names) {
    const size_t allowed = std::max<size_t>(1, name.size() / 3);
    if (text.size() > name.size() + allowed) continue;
    const size_t distance = EditDistance(text, name);
    if (distance > allowed || (nearest && distance >= nearest_distance)) continue;
    nearest = name;
    nearest_distance = distance;
  }
  return nearest;
}

}  // namespace latentd
