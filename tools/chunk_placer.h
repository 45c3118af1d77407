// `ChunkPlacer` makes chunk ids whose chunks lie on chosen nodes of a routing table. One thread.
#ifndef LATENTD_TOOLS_CHUNK_PLACER_H_
#define LATENTD_TOOLS_CHUNK_PLACER_H_

#include <cstdint>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "routing/chunk_id.h"
#include "routing/routing_table.h"

namespace latentd {

class ChunkPlacer {
 public:
  // Over the first `nodes` nodes that are primary of any slot; 0: all of them. FAILED_PRECONDITION
  // if there are fewer.
  static absl::StatusOr<ChunkPlacer> Create(const RoutingTable& table, uint32_t nodes,
                                            uint64_t seed);

  size_t nodes() const { return nodes_.size(); }
  const NodeId& node(size_t index) const { return nodes_[index].id; }
  // A new id on node `index` modulo nodes().
  ChunkId Draw(size_t index);

 private:
  struct Node {
    NodeId id;
    std::vector<Slot> slots;
  };

  ChunkPlacer() = default;

  std::vector<Node> nodes_;
  std::mt19937_64 random_;
};

// A seed that no other run has: chunks of an earlier run may still be there.
uint64_t FreshSeed();

}  // namespace latentd

#endif  // LATENTD_TOOLS_CHUNK_PLACER_H_
