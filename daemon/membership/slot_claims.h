// `SlotClaimSet`: of which slots, as placed when, a node has everything, and of which slots that it
// holds others have not. To and from the message under which etcd keeps it.
//
// A value: reading on any thread, changing on one.
#ifndef LATENTD_DAEMON_MEMBERSHIP_SLOT_CLAIMS_H_
#define LATENTD_DAEMON_MEMBERSHIP_SLOT_CLAIMS_H_

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/membership/membership.h"
#include "routing/routing_table.h"

namespace latentd {

class SlotClaimSet {
 public:
  SlotClaimSet() = default;
  explicit SlotClaimSet(Generation generation) : generation_(generation) {}

  Generation generation() const { return generation_; }  // of the memory that has it
  bool empty() const { return placed_.empty() && missed_.empty(); }
  bool Has(Slot slot, Epoch placed) const;

  // Whether that changed anything.
  bool Add(const std::vector<SlotClaim>& claims);
  bool AddMissed(const MissedWrite& missed);
  // Keeps what means something to whoever made `table`: claims of slots that `id` joins, as they are
  // placed now; what others lack of slots that `id` holds or joins (it may have acknowledged by an
  // older table what its copying cannot bring), until they join them as placed later. Whether that
  // changed anything.
  bool KeepWhatCounts(const RoutingTable& table, std::string_view id);

  struct Missed {
    Generation generation{};
    std::map<Slot, Epoch> placed;
  };
  const std::map<NodeId, Missed>& missed() const { return missed_; }

  // A serialised v1.SlotClaims.
  std::string Pack() const;
  // INVALID_ARGUMENT: it is none.
  static absl::StatusOr<SlotClaimSet> Unpack(std::string_view packed);

 private:
  Generation generation_{};
  std::map<Slot, Epoch> placed_;
  std::map<NodeId, Missed> missed_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_MEMBERSHIP_SLOT_CLAIMS_H_
