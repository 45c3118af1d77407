// `SlotClaimSet`: of which slots, as placed when, a node has everything. To and from the message
// under which etcd keeps it.
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
  bool empty() const { return placed_.empty(); }
  bool Has(Slot slot, Epoch placed) const;

  // Whether that changed anything.
  bool Add(const std::vector<SlotClaim>& claims);
  // Keeps those that mean something to whoever made `table`: of slots that `id` joins, as they are
  // placed now. Whether that changed anything.
  bool KeepWhatCounts(const RoutingTable& table, std::string_view id);

  // A serialised v1.SlotClaims.
  std::string Pack() const;
  // INVALID_ARGUMENT: it is none.
  static absl::StatusOr<SlotClaimSet> Unpack(std::string_view packed);

 private:
  Generation generation_{};
  std::map<Slot, Epoch> placed_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_MEMBERSHIP_SLOT_CLAIMS_H_
