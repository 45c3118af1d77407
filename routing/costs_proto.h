// What a node has measured, to and from the control plane's message. A message is another node's
// word: on the way in each constant is checked on its own, so that what is absurd is in quarantine
// and named, and the rest can be used. What is absent is missing, never zero.
//
// Pure functions and values; any thread.
#ifndef LATENTD_ROUTING_COSTS_PROTO_H_
#define LATENTD_ROUTING_COSTS_PROTO_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "proto/latentd/v1/costs.pb.h"
#include "routing/cost_constants.h"
#include "routing/ids.h"

namespace latentd {

// From the node that has measured it, as a requester, to `peer`, as the holder.
struct PeerLink {
  NodeId peer;
  Generation peer_generation{};  // of the life that was measured; 0: not known
  absl::Time measured = absl::InfinitePast();
  PairConstants constants;
};

struct NodeCosts {
  NodeId node;
  Generation generation{};
  absl::Time measured = absl::InfinitePast();          // the newest of what follows
  absl::Time compute_measured = absl::InfinitePast();  // the oldest of its compute tables
  // Of the dearest of the node's lanes: an id does not say which of them has its chunk.
  NodeConstants compute;
  std::vector<PeerLink> links;

  // Null: it has not measured the link to `peer`.
  const PeerLink* LinkTo(const NodeId& peer) const;
};

struct NodeCostsReading {
  NodeCosts costs;
  std::vector<std::string> quarantined;  // "node-b: constant probe is -3 us, allowed 0.05..1e+07"
};

// More than this in a message is not read, and named.
inline constexpr int kMaxComputeCosts = 256;
inline constexpr int kMaxLinkCosts = 16384;
// Constants are stale when they are older than this many of their owner's periods. A period that
// is 0, or absurd, is taken to be the nearest that makes sense.
inline constexpr int kPeriodsToStale = 2;
inline constexpr absl::Duration kLeastPeriod = absl::Seconds(1);
inline constexpr absl::Duration kMostPeriod = absl::Hours(24);

// `generation`: of the node's life now, by the routing table; what another life has measured is
// stale. 0: not known. Formats and regimes that this build does not know are left out.
NodeCostsReading FromProto(const v1::NodeCosts& message, absl::Time now, Generation generation);

v1::ComputeCosts ToProto(const ComputeTable& table, RecordFormat format, ComputeRegime regime,
                         uint32_t lane, absl::Time measured);
// Constants that are missing or in quarantine are left out.
v1::LinkCosts ToProto(const PeerLink& link);

}  // namespace latentd

#endif  // LATENTD_ROUTING_COSTS_PROTO_H_
