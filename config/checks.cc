#include "config/checks.h"

#include <algorithm>
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

void CheckGeometry(const Config& config, Findings& findings) {
  const Geometry geometry = LayoutOf(config).geometry();
  if (absl::Status widths = ValidateGeometry(geometry, RecordFormat::kBf16); !widths.ok()) {
    findings.AddFaultAt("model.rope", std::string(widths.message()));
  } else if (absl::Status format = ValidateGeometry(geometry, config.record); !format.ok()) {
    findings.AddFaultAt("record", std::string(format.message()));
  }
}

void CheckLanes(const Config& config, Findings& findings) {
  const uint64_t page_bytes = LayoutOf(config).page_bytes();
  std::map<std::string, size_t> lane_of_cuda_device;
  for (size_t i = 0; i < config.data.lanes.size(); ++i) {
    const LaneConfig& lane = config.data.lanes[i];
    const std::string path = ElementPath("data.lanes", i);
    if (lane.cache_bytes < page_bytes) {
      findings.AddFaultAt(path + ".cache",
                          absl::StrCat("too small for one page, which takes ", page_bytes,
                                       " bytes of this model in this record format"));
    }
    if (lane.device.kind == DeviceKind::kCuda) {
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
  if (limits.inflight_per_session > limits.inflight_per_lane) {
    findings.AddFaultAt("data.limits.inflight_per_session",
                        absl::StrCat(limits.inflight_per_session, " is more than the ",
                                     limits.inflight_per_lane, " of inflight_per_lane"));
  }
  if (limits.inflight_bytes_per_session > limits.inflight_bytes_per_lane) {
    findings.AddFaultAt(
        "data.limits.inflight_bytes_per_session",
        absl::StrCat(limits.inflight_bytes_per_session, " bytes are more than the ",
                     limits.inflight_bytes_per_lane, " bytes of inflight_bytes_per_lane"));
  }
}

void CheckPeers(const Config& config, Findings& findings) {
  const std::vector<PeerConfig>& peers = config.membership.peers;
  std::map<std::string, size_t> peer_of_id;
  std::map<std::string, size_t> peer_of_address;
  for (size_t i = 0; i < peers.size(); ++i) {
    const std::string path = ElementPath("membership.peers", i);
    const auto [same_id, fresh_id] = peer_of_id.emplace(peers[i].id, i);
    if (!fresh_id) {
      findings.AddFaultAt(path + ".id", absl::StrCat("'", peers[i].id, "' is membership.peers[",
                                                     same_id->second, "] already"));
    }
    const auto [same_address, fresh_address] = peer_of_address.emplace(peers[i].control_address, i);
    if (!fresh_address) {
      findings.AddFaultAt(path + ".control",
                          absl::StrCat("'", peers[i].control_address, "' is membership.peers[",
                                       same_address->second, "] already"));
    }
    if ((peers[i].capacity_bytes == 0) != (peers[0].capacity_bytes == 0)) {
      findings.AddFaultAt(path + ".capacity", "must be given for all peers or for none");
    }
  }
  if (peers.empty()) return;
  const auto self = peer_of_id.find(config.node.id);
  if (self == peer_of_id.end()) {
    findings.AddFaultAt("membership.peers",
                        absl::StrCat("this node, '", config.node.id, "', is not among them"));
    return;
  }
  const absl::StatusOr<HostPort> listen = ParseHostPort(config.control.listen);
  const std::string advertised = AdvertisedControlAddress(config);
  const std::string& listed = peers[self->second].control_address;
  if (listen.ok() && listen->port != 0 && listed != advertised) {
    findings.AddFaultAt(ElementPath("membership.peers", self->second) + ".control",
                        absl::StrCat("'", listed, "' is not this node's own '", advertised,
                                     "', node.advertise with the port of control.listen"));
  }
}

void CheckMembership(const Config& config, Findings& findings) {
  if (config.membership.backend == MembershipBackend::kEtcd) {
    findings.AddFaultAt("membership.backend",
                        "etcd membership is not in this version; list the nodes in "
                        "membership.peers with backend static");
    return;
  }
  CheckPeers(config, findings);
  const size_t nodes = std::max<size_t>(1, config.membership.peers.size());
  if (config.replicas > nodes) {
    findings.AddFaultAt("replicas", absl::StrCat(config.replicas, " replicas, but only ", nodes,
                                                 nodes == 1 ? " node" : " nodes"));
  }
}

void CheckAddresses(const Config& config, Findings& findings) {
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
  if (liveness.dead_ms < 2 * liveness.ping_ms) {
    findings.AddFaultAt(
        "data.liveness.dead_ms",
        absl::StrCat(liveness.dead_ms, " is less than twice ping_ms, which is ", liveness.ping_ms));
  }
  if (config.store.low_watermark >= config.store.high_watermark) {
    findings.AddFaultAt("store.low_watermark",
                        absl::StrCat(config.store.low_watermark, " is not below high_watermark, ",
                                     config.store.high_watermark));
  }
  CheckGeometry(config, findings);
}

}  // namespace latentd
