#include "routing/fair_shares.h"

#include <algorithm>
#include <numeric>

namespace latentd {
namespace {

__extension__ using Uint128 = unsigned __int128;

// The largest nodes, which hold every block, and what is left for the others.
struct Split {
  std::vector<size_t> by_capacity;  // indices into `eligible`, the largest first
  size_t full = 0;                  // so many of those hold every block
  Uint128 rest_bytes = 0;           // capacity of the others
};

Split SplitOff(std::span<const NodeInfo> nodes, std::span<const NodeIndex> eligible,
               uint32_t per_block) {
  Split split;
  split.by_capacity.resize(eligible.size());
  std::iota(split.by_capacity.begin(), split.by_capacity.end(), 0);
  const auto bytes = [&](size_t i) { return nodes[eligible[i]].capacity_bytes; };
  std::stable_sort(split.by_capacity.begin(), split.by_capacity.end(),
                   [&](size_t a, size_t b) { return bytes(a) > bytes(b); });
  for (size_t i = 0; i < eligible.size(); ++i) split.rest_bytes += bytes(i);
  while (split.full < per_block) {
    const uint64_t largest = bytes(split.by_capacity[split.full]);
    if (Uint128{largest} * (per_block - split.full) < split.rest_bytes) break;
    split.rest_bytes -= largest;
    ++split.full;
  }
  return split;
}

}  // namespace

std::vector<uint64_t> FairShares(std::span<const NodeInfo> nodes,
                                 std::span<const NodeIndex> eligible, uint32_t per_block,
                                 uint32_t blocks) {
  const Split split = SplitOff(nodes, eligible, per_block);
  std::vector<uint64_t> shares(eligible.size());
  const uint64_t whole = uint64_t{blocks} << kShareFractionBits;
  const Uint128 left = Uint128{whole} * (per_block - split.full);
  for (size_t rank = 0; rank < eligible.size(); ++rank) {
    const size_t i = split.by_capacity[rank];
    const uint64_t bytes = nodes[eligible[i]].capacity_bytes;
    shares[i] = rank < split.full ? whole : static_cast<uint64_t>(left * bytes / split.rest_bytes);
  }
  return shares;
}

std::vector<IdleCapacity> FindIdleCapacity(std::span<const NodeInfo> nodes,
                                           std::span<const NodeIndex> eligible,
                                           uint32_t per_block) {
  const Split split = SplitOff(nodes, eligible, per_block);
  // What one copy of everything takes at the most: as much as each of the others' copies has room.
  const uint64_t usable = split.full == eligible.size()
                              ? nodes[eligible[split.by_capacity.back()]].capacity_bytes
                              : static_cast<uint64_t>(split.rest_bytes / (per_block - split.full));
  std::vector<IdleCapacity> idle;
  for (size_t rank = 0; rank < split.full; ++rank) {
    const NodeIndex node = eligible[split.by_capacity[rank]];
    if (nodes[node].capacity_bytes > usable) idle.push_back({node, usable});
  }
  return idle;
}

}  // namespace latentd
