#include "daemon/store/arrived_tokens.h"

#include <algorithm>

namespace latentd {

size_t ArrivedTokens::FirstEndingFrom(uint32_t token) const {
  const auto it = std::lower_bound(ranges_.begin(), ranges_.end(), token,
                                   [](const Range& range, uint32_t t) { return range.end < t; });
  return static_cast<size_t>(it - ranges_.begin());
}

bool ArrivedTokens::Contains(uint32_t first, uint32_t end) const {
  const size_t i = FirstEndingFrom(end);
  return i < ranges_.size() && ranges_[i].first <= first;
}

bool ArrivedTokens::WouldAddRun(uint32_t first, uint32_t end) const {
  const size_t i = FirstEndingFrom(first);
  return i == ranges_.size() || ranges_[i].first > end;
}

void ArrivedTokens::Add(uint32_t first, uint32_t end) {
  const size_t from = FirstEndingFrom(first);
  size_t to = from;  // runs [from, to) touch the new one and melt into it
  while (to < ranges_.size() && ranges_[to].first <= end) {
    first = std::min(first, ranges_[to].first);
    end = std::max(end, ranges_[to].end);
    ++to;
  }
  if (from == to) {
    ranges_.insert(ranges_.begin() + from, Range{first, end});
    return;
  }
  ranges_[from] = {first, end};
  ranges_.erase(ranges_.begin() + from + 1, ranges_.begin() + to);
}

void ArrivedTokens::Cut(uint32_t first, uint32_t end, std::vector<Piece>& pieces) const {
  uint32_t at = first;
  // A run that only touches `first` from below gives an empty intersection and is skipped.
  for (size_t i = FirstEndingFrom(first); i < ranges_.size() && ranges_[i].first < end; ++i) {
    const uint32_t from = std::max(at, ranges_[i].first);
    const uint32_t to = std::min(end, ranges_[i].end);
    if (from >= to) continue;
    if (at < from) pieces.push_back({at, from, false});
    pieces.push_back({from, to, true});
    at = to;
  }
  if (at < end) pieces.push_back({at, end, false});
}

}  // namespace latentd
