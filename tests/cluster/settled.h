// When a routing table is what it should stay: tests and benchmarks wait for it. Pure; any thread.
#ifndef LATENTD_TESTS_CLUSTER_SETTLED_H_
#define LATENTD_TESTS_CLUSTER_SETTLED_H_

#include <cstddef>
#include <cstdint>

#include "proto/latentd/v1/cluster.pb.h"

namespace latentd::testing {

// Whether the table has so many nodes, every slot so many holders, and nobody joins anything.
inline bool Settled(const v1::RoutingTable& table, uint32_t holders, size_t nodes) {
  if (static_cast<size_t>(table.nodes_size()) != nodes) return false;
  for (const v1::SlotRange& range : table.ranges()) {
    if (range.joining_size() > 0 || range.holders_size() != static_cast<int>(holders)) return false;
  }
  return true;
}

}  // namespace latentd::testing

#endif  // LATENTD_TESTS_CLUSTER_SETTLED_H_
