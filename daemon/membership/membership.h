// `Membership` says who the nodes are and keeps the routing table up to date, on behalf of whatever
// authority the cluster has: a list in the configuration, or etcd.
//
// Life: made; Start once, when this node can be reached; tables come until Stop. Until the
// authority has given a first table, table() is null and the daemon answers UNAVAILABLE.
//
// Any thread. The callback runs on a thread of the membership's choosing (inside Start, for a
// backend that knows at once), one call at a time, with epochs that only grow; it must not call
// Start or Stop.
#ifndef LATENTD_DAEMON_MEMBERSHIP_MEMBERSHIP_H_
#define LATENTD_DAEMON_MEMBERSHIP_MEMBERSHIP_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "daemon/membership/authority_status.h"
#include "daemon/membership/serving_fence.h"
#include "proto/latentd/v1/costs.pb.h"
#include "routing/routing_table.h"

namespace latentd {

using TablePtr = std::shared_ptr<const RoutingTable>;
using TableCallback = std::function<void(TablePtr)>;

// A node as this one knows it.
struct Member {
  NodeInfo node;
  bool heard_from = false;  // false: listed, but nothing says that it runs
  std::string version;      // empty: not known
};

// "This node has everything that the slot's holders had when the slot was placed so": it says so of
// slots that it joins, and may then become a holder.
struct SlotClaim {
  Slot slot{};
  Epoch placed{};  // RoutingTable::PlacedOf

  friend bool operator==(const SlotClaim&, const SlotClaim&) = default;
};

// "A write to this slot, as it was placed then, is acknowledged, and this node has not taken it": a
// holder says so of another, which is no holder any more until it has copied the slot anew.
struct MissedWrite {
  NodeId node;
  Generation generation{};  // of its memory
  Slot slot{};
  Epoch placed{};

  friend bool operator==(const MissedWrite&, const MissedWrite&) = default;
};

class Membership {
 public:
  virtual ~Membership() = default;

  // "static", "etcd".
  virtual std::string_view name() const = 0;

  // Announces this node, reachable at self.control_address, and begins to deliver tables. Errors
  // name what is wrong with the nodes or the authority.
  virtual absl::Status Start(NodeInfo self, TableCallback on_table) = 0;
  // No callback runs after it returns. Tells the authority that this node leaves, if there is
  // anybody to tell.
  virtual void Stop() = 0;

  // The newest table, or null.
  virtual TablePtr table() const = 0;
  // Every node, this one too. Empty before Start.
  virtual std::vector<Member> ListNodes() const = 0;

  // Announces that this node drains, or no longer does. The authority may answer with another
  // table.
  virtual void SetDraining(bool draining) = 0;
  // Whether the slots of a node that drains go to others, one by one, while it answers for those
  // that it still holds.
  virtual bool hands_over() const { return false; }

  // Claims more slots. Claims of a placement that is over mean nothing. Nobody claims anything of a
  // backend whose tables have no joining nodes.
  virtual void Claim(std::vector<SlotClaim> claims) { (void)claims; }
  // Says what another node lacks. Nobody does where the tables never change.
  virtual void ReportMissed(MissedWrite missed) { (void)missed; }
  // Tells the others what this node has measured; a backend that reaches nobody keeps it to itself.
  virtual void PublishCosts(v1::NodeCosts costs) { (void)costs; }
  // What nodes have said so, this one perhaps too, as it came. Empty where they cannot.
  virtual std::vector<v1::NodeCosts> costs() const { return {}; }
  // Whether costs() are every node's.
  virtual bool tells_costs() const { return false; }
  // Until when this node may answer; as long as the membership lives.
  virtual const ServingFence& fence() const { return open_; }
  // Nothing where the authority is a file.
  virtual std::optional<AuthorityStatus> authority() const { return std::nullopt; }

 private:
  const ServingFence open_{};
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_MEMBERSHIP_MEMBERSHIP_H_
