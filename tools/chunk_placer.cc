#include "tools/chunk_placer.h"

#include <utility>

#include "absl/strings/str_cat.h"

namespace latentd {

absl::StatusOr<ChunkPlacer> ChunkPlacer::Create(const RoutingTable& table, uint32_t nodes,
                                                uint64_t seed) {
  ChunkPlacer placement;
  placement.random_.seed(seed);
  for (size_t i = 0; i < table.nodes().size(); ++i) {
    if (nodes != 0 && placement.nodes_.size() == nodes) break;
    const auto index = static_cast<NodeIndex>(i);
    std::vector<Slot> slots = table.SlotsOf(index);
    if (!slots.empty()) placement.nodes_.push_back({table.node(index).id, std::move(slots)});
  }
  if (placement.nodes_.size() < nodes || placement.nodes_.empty()) {
    return absl::FailedPreconditionError(
        absl::StrCat("the routing table has ", placement.nodes_.size(), " nodes that hold slots, ",
                     nodes, " were asked for"));
  }
  return placement;
}

ChunkId ChunkPlacer::Draw(size_t index) {
  const std::vector<Slot>& slots = nodes_[index % nodes_.size()].slots;
  const Slot slot = slots[std::uniform_int_distribution<size_t>(0, slots.size() - 1)(random_)];
  const uint64_t hi = random_();
  return PlaceChunkId(slot, {.hi = hi, .lo = random_()});
}

uint64_t FreshSeed() {
  std::random_device device;
  return uint64_t{device()} << 32 | device();
}

}  // namespace latentd
