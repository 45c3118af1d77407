#include "daemon/metrics/node_metrics.h"

#include <algorithm>
#include <limits>

#include "absl/time/clock.h"
#include "daemon/metrics/replication_metrics.h"

namespace latentd {

using prometheus::MetricType;

namespace {

void AppendPeers(const NodeSnapshot& node, MetricFamilies& to) {
  auto& count =
      AddFamily(to, "latentd_peers", "Other nodes of the cluster by the state they are in.",
                MetricType::Gauge);
  for (const std::string& state : node.peer_states) {
    AddSample(count, {{"state", state}},
              static_cast<double>(
                  std::count_if(node.peers.begin(), node.peers.end(),
                                [&](const PeerSample& peer) { return peer.state == state; })));
  }
  auto& up =
      AddFamily(to, "latentd_peer_up", "1 for a node that answers this one.", MetricType::Gauge);
  auto& differs = AddFamily(to, "latentd_peer_differs",
                            "1 for a node with another layout or routing table than this one.",
                            MetricType::Gauge);
  for (const PeerSample& peer : node.peers) {
    AddSample(up, {{"peer", peer.id}}, peer.state == "active" || peer.state == "draining" ? 1 : 0);
    AddSample(differs, {{"peer", peer.id}}, peer.differs ? 1 : 0);
  }
}

void AppendAuthority(const AuthorityStatus& authority, MetricFamilies& to) {
  AddSingle(to, "latentd_fence_open",
            "1 while the node may answer queries, as far as its lease at etcd goes.",
            MetricType::Gauge, authority.serves_for > absl::ZeroDuration() ? 1 : 0);
  AddSingle(to, "latentd_lease_remaining_seconds",
            "How long the node may still answer if etcd says nothing more.", MetricType::Gauge,
            absl::ToDoubleSeconds(authority.serves_for));
  AddSingle(to, "latentd_is_coordinator", "1 for the node that writes the routing table.",
            MetricType::Gauge, authority.coordinates ? 1 : 0);
  AddSingle(to, "latentd_membership_troubles",
            "What is not as it should be with the cluster, as latentctl status lists it.",
            MetricType::Gauge, static_cast<double>(authority.troubles.size()));
}

void AppendCalibration(const CalibrationStatus& calibration, MetricFamilies& to) {
  const bool ever = calibration.lanes_measured != absl::InfinitePast();
  AddSingle(to, "latentd_calibration_age_seconds",
            "Time since all lanes had been timed last; infinite: never.", MetricType::Gauge,
            ever ? absl::ToDoubleSeconds(absl::Now() - calibration.lanes_measured)
                 : std::numeric_limits<double>::infinity());
  AddSingle(to, "latentd_calibration_links", "Links to other nodes whose costs are known.",
            MetricType::Gauge, static_cast<double>(calibration.links));
  AddSingle(to, "latentd_calibration_failures_total",
            "Lanes and links that were to be timed and could not be.", MetricType::Counter,
            static_cast<double>(calibration.failures));
}

}  // namespace

void AppendNodeMetrics(const NodeSnapshot& node, MetricFamilies& to) {
  AddSample(AddFamily(to, "latentd_build_info", "Always 1; its labels tell what runs here.",
                      MetricType::Gauge),
            {{"node", node.node_id},
             {"version", node.version},
             {"model", node.model},
             {"record", node.record},
             {"layout", node.layout_hash}},
            1);
  auto& state = AddFamily(to, "latentd_node_state", "1 for the state that the node is in.",
                          MetricType::Gauge);
  for (const std::string& name : node.states) {
    AddSample(state, {{"state", name}}, name == node.state ? 1 : 0);
  }
  AddSingle(to, "latentd_routing_epoch", "Epoch of the newest routing table; 0: none yet.",
            MetricType::Gauge, static_cast<double>(node.epoch));
  if (node.authority) AppendAuthority(*node.authority, to);
  AddSingle(to, "latentd_table_watches", "Clients that follow the routing table.",
            MetricType::Gauge, static_cast<double>(node.table_watches));
  AppendPeers(node, to);
  AppendCalibration(node.calibration, to);
  AddSingle(to, "latentd_sessions", "Sessions that are open.", MetricType::Gauge,
            static_cast<double>(node.sessions.live));
  AddSingle(to, "latentd_sessions_opened_total", "Sessions opened.", MetricType::Counter,
            static_cast<double>(node.sessions.opened));
  AddSingle(to, "latentd_sessions_refused_total",
            "Sessions refused: too many, or the daemon could not take them.", MetricType::Counter,
            static_cast<double>(node.sessions.refused));
  auto& ended =
      AddFamily(to, "latentd_sessions_ended_total", "Sessions that ended.", MetricType::Counter);
  AddSample(ended, {{"reason", "closed"}}, static_cast<double>(node.sessions.closed));
  AddSample(ended, {{"reason", "expired"}}, static_cast<double>(node.sessions.expired));
  AddSample(ended, {{"reason", "lost"}}, static_cast<double>(node.sessions.lost));
  AppendReplicationMetrics(node.replication, to);
}

}  // namespace latentd
