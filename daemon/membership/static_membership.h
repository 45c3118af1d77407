// Membership by configuration: the peers of the YAML file, for ever. Every daemon that is given the
// same list makes the same table by itself, so that no authority has to be running.
//
// What it cannot do: a peer that dies stays in the table, and one that restarts with an empty cache
// is found out by its answers (NOT_FOUND, WRONG_GENERATION). Operators learn of both from
// daemon/services/peer_watch.h.
#ifndef LATENTD_DAEMON_MEMBERSHIP_STATIC_MEMBERSHIP_H_
#define LATENTD_DAEMON_MEMBERSHIP_STATIC_MEMBERSHIP_H_

#include <cstdint>
#include <mutex>
#include <string>
#include <vector>

#include "daemon/membership/membership.h"

namespace latentd {

struct StaticPeer {
  NodeId id;
  std::string control_address;
  uint64_t capacity_bytes = 0;  // 0: weighs as much as any other
};

struct StaticMembershipOptions {
  std::vector<StaticPeer> peers;  // every node, this one too; empty: this one is alone
  uint32_t replicas = 1;
  Epoch epoch{1};  // whoever changes the list raises it
  std::string version;
};

class StaticMembership : public Membership {
 public:
  explicit StaticMembership(StaticMembershipOptions options);

  std::string_view name() const override { return "static"; }
  // INVALID_ARGUMENT: the peers do not list this node, or make no table.
  absl::Status Start(NodeInfo self, TableCallback on_table) override;
  void Stop() override {}
  TablePtr table() const override;
  std::vector<Member> ListNodes() const override;
  // Shown by ListNodes; the table stays, since no other daemon would learn of a change.
  void SetDraining(bool draining) override;

 private:
  const StaticMembershipOptions options_;
  mutable std::mutex mutex_;
  NodeInfo self_;
  TablePtr table_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_MEMBERSHIP_STATIC_MEMBERSHIP_H_
