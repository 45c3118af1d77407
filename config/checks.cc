#include "config/checks.h"

#include <algorithm>
#include <initializer_list>
#include <map>
#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "config/codec.h"
#include "config/host_port.h"
#include "config/key.h"
#include "kernels/validate.h"

namespace latentd {
namespace {

bool AreKnown(const Findings& findings, std::initializer_list<const char*> paths) {
  return std::all_of(paths.begin(), paths.end(),
                     [&](const char* path) { return findings.IsKnown(path); });
}

void CheckGeometry(const Config& config, Findings& findings) {
  if (!AreKnown(findings, {"model", "record"})) return;
  const Geometry geometry = LayoutOf(config).geometry();
  if (absl::Status widths = ValidateGeometry(geometry, RecordFormat::kBf16); !widths.ok()) {
    findings.AddFaultAt("model.rope", std::string(widths.message()));
  } else if (absl::Status format = ValidateGeometry(geometry, config.record); !format.ok()) {
    findings.AddFaultAt("record", std::string(format.message()));
  }
}

void CheckLanes(const Config& config, Findings& findings) {
  const bool layout_known = AreKnown(findings, {"model", "record"});
  const uint64_t page_bytes = layout_known ? LayoutOf(config).page_bytes() : 0;
  std::map<std::string, size_t> lane_of_cuda_device;
  for (size_t i = 0; i < config.data.lanes.size(); ++i) {
    const LaneConfig& lane = config.data.lanes[i];
    const std::string path = ElementPath("data.lanes", i);
    if (lane.cache_bytes < page_bytes && findings.IsKnown(path + ".cache")) {
      findings.AddFaultAt(path + ".cache",
                          absl::StrCat("too small for one page, which takes ", page_bytes,
                                       " bytes of this model in this record format"));
    }
    if (lane.device.kind == DeviceKind::kCuda && findings.IsKnown(path + ".device")) {
      const std::string device = ToString(lane.device);
      const auto [other, fresh] = lane_of_cuda_device.emplace(device, i);
      if (!fresh) {
        findings.AddFaultAt(
            path + ".device",
            absl::StrCat(device, " has a lane already, data.lanes[", other->second, "]"));
      }
    }
    if (std::set<uint32_t>(lane.cpus.begin(), lane.cpus.end()).size() != lane.cpus.size()) {
      findings.AddFaultAt(path + ".cpus", "names a CPU twice");
    }
  }
}

void CheckLimits(const LimitsConfig& limits, Findings& findings) {
  if (limits.inflight_per_session > limits.inflight_per_lane &&
      AreKnown(findings, {"data.limits.inflight_per_session", "data.limits.inflight_per_lane"})) {
    findings.AddFaultAt("data.limits.inflight_per_session",
                        absl::StrCat(limits.inflight_per_session, " is more than the ",
                                     limits.inflight_per_lane, " of inflight_per_lane"));
  }
  if (limits.inflight_bytes_per_session > limits.inflight_bytes_per_lane &&
      AreKnown(findings,
               {"data.limits.inflight_bytes_per_session", "data.limits.inflight_bytes_per_lane"})) {
    findings.AddFaultAt(
        "data.limits.inflight_bytes_per_session",
        absl::StrCat(limits.inflight_bytes_per_session, " bytes are more than the ",
                     limits.inflight_bytes_per_lane, " bytes of inflight_bytes_per_lane"));
  }
}

// Whether the value of `key` of the peer at `path` may be compared with others.
bool PeerKnows(const Findings& findings, const std::string& path, const char* key) {
  return findings.IsKnown(JoinPath(path, key));
}

// Told apart by id and address, and all weigh or none.
void CheckPeersAmongThemselves(const std::vector<PeerConfig>& peers, Findings& findings) {
  std::map<std::string, size_t> peer_of_id;
  std::map<std::string, size_t> peer_of_address;
  const bool first_weighs_known =
      PeerKnows(findings, ElementPath("membership.peers", 0), "capacity");
  for (size_t i = 0; i < peers.size(); ++i) {
    const std::string path = ElementPath("membership.peers", i);
    if (PeerKnows(findings, path, "id")) {
      if (const auto [same, fresh] = peer_of_id.emplace(peers[i].id, i); !fresh) {
        findings.AddFaultAt(path + ".id", absl::StrCat("'", peers[i].id, "' is membership.peers[",
                                                       same->second, "] already"));
      }
    }
    if (PeerKnows(findings, path, "control")) {
      if (const auto [same, fresh] = peer_of_address.emplace(peers[i].control_address, i); !fresh) {
        findings.AddFaultAt(path + ".control",
                            absl::StrCat("'", peers[i].control_address, "' is membership.peers[",
                                         same->second, "] already"));
      }
    }
    if (first_weighs_known && PeerKnows(findings, path, "capacity") &&
        (peers[i].capacity_bytes == 0) != (peers[0].capacity_bytes == 0)) {
      findings.AddFaultAt(path + ".capacity", "must be given for all peers or for none");
    }
  }
}

// This node is one of them, under its own address.
void CheckSelfAmongPeers(const Config& config, Findings& findings) {
  const std::vector<PeerConfig>& peers = config.membership.peers;
  if (!AreKnown(findings, {"node.id"})) return;
  size_t self = 0;
  while (self < peers.size() && peers[self].id != config.node.id) ++self;
  if (self == peers.size()) {
    if (!findings.IsKnown("membership.peers")) return;
    findings.AddFaultAt("membership.peers",
                        absl::StrCat("this node, '", config.node.id, "', is not among them"));
    return;
  }
  const std::string path = ElementPath("membership.peers", self);
  if (!AreKnown(findings, {"node.advertise", "control.listen"})) return;
  if (!PeerKnows(findings, path, "control")) return;
  const absl::StatusOr<HostPort> listen = ParseHostPort(config.control.listen);
  const std::string advertised = AdvertisedControlAddress(config);
  const std::string& listed = peers[self].control_address;
  if (listen.ok() && listen->port != 0 && listed != advertised) {
    findings.AddFaultAt(path + ".control",
                        absl::StrCat("'", listed, "' is not this node's own '", advertised,
                                     "', node.advertise with the port of control.listen"));
  }
}

// Two keys of which neither means anything without the other.
void CheckTogether(const std::string& path, const char* first, bool has_first, const char* second,
                   bool has_second, Findings& findings) {
  if (has_first == has_second) return;
  const std::string given = JoinPath(path, has_first ? first : second);
  const char* missing = has_first ? second : first;
  if (!AreKnown(findings, {given.c_str(), JoinPath(path, missing).c_str()})) return;
  findings.AddFaultAt(given, absl::StrCat("needs ", JoinPath(path, missing)));
}

// Also judged where the backend is another: what is written is meant for some day.
void CheckEtcd(const MembershipConfig& membership, Findings& findings) {
  CheckTogether("membership", "user", !membership.user.empty(), "password_file",
                !membership.password_path.empty(), findings);
  if (membership.tls) {
    CheckTogether("membership.tls", "cert", !membership.tls->cert_path.empty(), "key",
                  !membership.tls->key_path.empty(), findings);
  }
  for (size_t i = 0; i < membership.endpoints.size(); ++i) {
    const auto begin = membership.endpoints.begin();
    const auto same = std::find(begin, begin + static_cast<ptrdiff_t>(i), membership.endpoints[i]);
    if (same == begin + static_cast<ptrdiff_t>(i)) continue;
    findings.AddFaultAt(ElementPath("membership.endpoints", i),
                        absl::StrCat("'", membership.endpoints[i], "' is membership.endpoints[",
                                     same - begin, "] already"));
  }
  if (membership.backend != MembershipBackend::kEtcd) {
    // A node on its own where a cluster was meant would not be noticed.
    const bool alone = AreKnown(findings, {"membership.endpoints", "membership.peers"}) &&
                       !membership.endpoints.empty() && membership.peers.empty();
    if (alone) findings.AddFaultAt("membership.endpoints", "is for backend etcd");
    return;
  }
  if (membership.endpoints.empty() && findings.IsKnown("membership.endpoints")) {
    findings.AddFaultAt("membership.endpoints", "is needed with backend etcd");
  }
  if (!membership.peers.empty() && findings.IsKnown("membership.peers")) {
    findings.AddFaultAt("membership.peers", "is for backend static; etcd knows the nodes");
  }
}

void CheckMembership(const Config& config, Findings& findings) {
  CheckEtcd(config.membership, findings);
  if (!findings.IsKnown("membership.backend")) return;
  if (config.membership.backend == MembershipBackend::kEtcd) return;
  if (!config.membership.peers.empty()) {
    CheckPeersAmongThemselves(config.membership.peers, findings);
    CheckSelfAmongPeers(config, findings);
  }
  if (!AreKnown(findings, {"replicas", "membership.peers"})) return;
  const size_t nodes = std::max<size_t>(1, config.membership.peers.size());
  if (config.replicas > nodes) {
    findings.AddFaultAt("replicas", absl::StrCat(config.replicas, " replicas, but only ", nodes,
                                                 nodes == 1 ? " node" : " nodes"));
  }
}

void CheckAddresses(const Config& config, Findings& findings) {
  if (!AreKnown(findings, {"control.listen", "metrics.listen"})) return;
  const absl::StatusOr<HostPort> control = ParseHostPort(config.control.listen);
  const absl::StatusOr<HostPort> metrics = ParseHostPort(config.metrics.listen);
  if (!control.ok() || !metrics.ok()) return;  // metrics are off
  const bool hosts_meet =
      control->host == metrics->host || IsWildcard(control->host) || IsWildcard(metrics->host);
  if (control->port != 0 && control->port == metrics->port && hosts_meet) {
    findings.AddFaultAt("metrics.listen",
                        absl::StrCat("port ", metrics->port, " is control.listen's already"));
  }
}

}  // namespace

void CheckConfig(const Config& config, Findings& findings) {
  CheckLanes(config, findings);
  CheckLimits(config.data.limits, findings);
  CheckMembership(config, findings);
  CheckAddresses(config, findings);
  const LivenessConfig& liveness = config.data.liveness;
  if (liveness.dead_ms < 2 * liveness.ping_ms &&
      AreKnown(findings, {"data.liveness.dead_ms", "data.liveness.ping_ms"})) {
    findings.AddFaultAt(
        "data.liveness.dead_ms",
        absl::StrCat(liveness.dead_ms, " is less than twice ping_ms, which is ", liveness.ping_ms));
  }
  if (config.store.low_watermark >= config.store.high_watermark &&
      AreKnown(findings, {"store.low_watermark", "store.high_watermark"})) {
    findings.AddFaultAt("store.low_watermark",
                        absl::StrCat(config.store.low_watermark, " is not below high_watermark, ",
                                     config.store.high_watermark));
  }
  CheckGeometry(config, findings);
}

}  // namespace latentd
