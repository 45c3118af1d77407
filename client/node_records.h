// `NodeRecords` keeps what this client has learnt of each node by sending it requests: how busy its lanes
// are, how fast they answer, whether its connection fails. The dispatcher tells it and asks it.
//
// Pure: time comes in as an argument. Not synchronised. A `NodeRecord` stays where it is until Keep drops
// it.
#ifndef LATENTD_CLIENT_NODE_RECORDS_H_
#define LATENTD_CLIENT_NODE_RECORDS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "client/circuit_breaker.h"
#include "client/latency_estimate.h"
#include "client/node_health.h"
#include "client/replica_choice.h"
#include "routing/ids.h"
#include "routing/routing_table.h"

namespace latentd {

struct LaneRecord {
  LaneLoad load;
  LatencyEstimate latency;
};

class NodeRecord {
 public:
  NodeRecord(NodeId id, const CircuitBreakerOptions& options)
      : id(std::move(id)), breaker(options) {}

  const NodeId id;
  CircuitBreaker breaker;
  uint64_t avoid_until_ns = 0;  // it asked for that: it drains, or stops

  // Whether to ask it while there are others.
  bool Allows(uint64_t now_ns) const { return now_ns >= avoid_until_ns && breaker.Allows(now_ns); }
  LaneRecord& lane(uint32_t lane);
  // Null of one that was never asked.
  const LaneRecord* FindLane(uint32_t lane) const;
  uint32_t in_flight() const;
  NodeHealth Report(uint64_t now_ns) const;

 private:
  std::vector<LaneRecord> lanes_;
};

class NodeRecords {
 public:
  explicit NodeRecords(const CircuitBreakerOptions& options) : options_(options) {}

  NodeRecord& At(const NodeId& id);
  // Null of one that was never asked.
  const NodeRecord* Find(const NodeId& id) const;
  // Drops what is not in the table, unless requests are under way there.
  void Keep(const RoutingTable& table);
  // By node id.
  std::vector<NodeHealth> Report(uint64_t now_ns) const;

 private:
  const CircuitBreakerOptions options_;
  absl::flat_hash_map<NodeId, std::unique_ptr<NodeRecord>> records_;
};

}  // namespace latentd

#endif  // LATENTD_CLIENT_NODE_RECORDS_H_
