#include "daemon/process/parts.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/membership/make_membership.h"
#include "daemon/process/lanes.h"
#include "daemon/process/version.h"

namespace latentd {
namespace {

absl::StatusOr<std::unique_ptr<Replication>> MakeReplication(const Config& config) {
  absl::StatusOr<std::unique_ptr<Replication>> replication =
      Replication::Create({.self = config.node.id,
                           .layout = LayoutOf(config),
                           .tls = TlsOf(config),
                           .transports = config.data.transports,
                           .copy = {.parallel = config.migration.parallel,
                                    .bytes_per_second = config.migration.rate_bytes_per_s},
                           .ping_after = absl::Milliseconds(config.data.liveness.ping_ms),
                           .dead_after = absl::Milliseconds(config.data.liveness.dead_ms)});
  if (replication.ok()) return replication;
  return absl::Status(replication.status().code(),
                      absl::StrCat("replication: ", std::string(replication.status().message())));
}

}  // namespace

TlsFiles TlsOf(const Config& config) {
  if (!config.control.tls.has_value()) return {};
  return {.ca = config.control.tls->ca_path,
          .cert = config.control.tls->cert_path,
          .key = config.control.tls->key_path};
}

absl::StatusOr<ServerParts> MakeParts(const Config& config, Generation generation,
                                      std::unique_ptr<Membership> membership) {
  ServerParts parts;
  // A list of nodes that never changes moves no slot.
  const bool slots_move =
      membership != nullptr || config.membership.backend != MembershipBackend::kStatic;
  parts.membership = std::move(membership);
  if (parts.membership == nullptr) {
    auto made = MakeMembership(config, kVersion);
    if (!made.ok()) return made.status();
    parts.membership = *std::move(made);
  }
  LaneSeams seams{.fence = &parts.membership->fence()};
  if (slots_move || config.replicas > 1) {
    auto replication = MakeReplication(config);
    if (!replication.ok()) return replication.status();
    parts.replication = *std::move(replication);
    seams.replica_sink = parts.replication->sink();
  }
  auto lanes = MakeLanes(config, generation, seams);
  if (!lanes.ok()) return lanes.status();
  parts.lanes = *std::move(lanes);
  return parts;
}

}  // namespace latentd
