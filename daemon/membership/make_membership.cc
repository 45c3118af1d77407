#include "daemon/membership/make_membership.h"

#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "daemon/etcd/etcd_members.h"
#include "daemon/membership/etcd_membership.h"
#include "daemon/membership/static_membership.h"

namespace latentd {

namespace {

// Nodes begin with different members of etcd, so that none has them all.
std::vector<std::string> StartingElsewhere(std::vector<std::string> endpoints, const NodeId& id) {
  if (endpoints.empty()) return endpoints;
  const auto first = static_cast<std::ptrdiff_t>(std::hash<std::string>()(id) % endpoints.size());
  std::rotate(endpoints.begin(), endpoints.begin() + first, endpoints.end());
  return endpoints;
}

absl::StatusOr<std::unique_ptr<Membership>> MakeEtcdMembership(const Config& config,
                                                               const std::string& version) {
  const MembershipConfig& from = config.membership;
  EtcdMembershipOptions options{
      .etcd = {.endpoints = StartingElsewhere(from.endpoints, config.node.id),
               .tls = {},
               .user = from.user,
               .password_path = from.password_path},
      .cluster = from.cluster,
      .lease = absl::Milliseconds(from.lease_ms),
      .replicas = config.replicas,
      .layout = LayoutOf(config),
      .lanes = static_cast<uint32_t>(config.data.lanes.size()),
      .version = version};
  if (from.tls) {
    options.etcd.tls = EtcdTls{from.tls->ca_path, from.tls->cert_path, from.tls->key_path};
  }
  if (absl::Status status = CheckEtcdOptions(options.etcd); !status.ok()) {
    return absl::Status(status.code(), absl::StrCat("membership: ", status.message()));
  }
  return std::make_unique<EtcdMembership>(std::move(options));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Membership>> MakeMembership(const Config& config,
                                                           const std::string& version) {
  if (config.membership.backend == MembershipBackend::kEtcd) {
    return MakeEtcdMembership(config, version);
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
