#include "daemon/membership/make_membership.h"

#include <utility>

#include "absl/status/status.h"
#include "daemon/membership/static_membership.h"

namespace latentd {

absl::StatusOr<std::unique_ptr<Membership>> MakeMembership(const Config& config,
                                                           const std::string& version) {
  switch (config.membership.backend) {
    case MembershipBackend::kStatic:
      break;
    case MembershipBackend::kEtcd:
      return absl::UnimplementedError(
          "membership.backend: etcd is not in this version; use static and membership.peers");
  }
  StaticMembershipOptions options{.peers = {},
                                  .replicas = config.replicas,
                                  .epoch = Epoch{config.membership.epoch},
                                  .version = version};
  for (const PeerConfig& peer : config.membership.peers) {
    options.peers.push_back({.id = peer.id,
                             .control_address = peer.control_address,
                             .capacity_bytes = peer.capacity_bytes});
  }
  return std::make_unique<StaticMembership>(std::move(options));
}

}  // namespace latentd
