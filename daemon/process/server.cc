#include "daemon/process/server.h"

#include <sys/random.h>

#include <optional>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "daemon/membership/make_membership.h"
#include "daemon/metrics/collector.h"
#include "daemon/process/cuda_facts.h"
#include "daemon/process/log.h"
#include "daemon/process/version.h"

namespace latentd {
namespace {

// How long gRPC calls that are under way may take once everything else has stopped.
constexpr absl::Duration kCallGrace = absl::Seconds(1);

std::vector<Lane*> Pointers(const std::vector<std::unique_ptr<Lane>>& lanes) {
  std::vector<Lane*> pointers;
  for (const auto& lane : lanes) pointers.push_back(lane.get());
  return pointers;
}

SessionRules RulesOf(const Config& config) {
  return {.max_sessions = config.data.limits.sessions,
          .ttl = absl::Milliseconds(config.session.ttl_ms)};
}

CalibratorOptions CalibratorOptionsOf(const Config& config, Generation generation) {
  return {.self = config.node.id,
          .generation = generation,
          .format = config.record,
          .tls = TlsOf(config),
          .transports = config.data.transports,
          .at_start = config.calibration.at_start,
          .period = absl::Milliseconds(config.calibration.period_ms),
          .lanes = {.heads = config.model.heads,
                    .share = config.calibration.share,
                    .longest_batch = absl::Microseconds(config.calibration.longest_batch_us)},
          .link_bytes_per_s = config.calibration.link_rate_bytes_per_s};
}

// The advertised host with the port that the server really has.
std::string AdvertisedAddress(const Config& config, int port) {
  const std::string address = AdvertisedControlAddress(config);
  return absl::StrCat(address.substr(0, address.rfind(':')), ":", port);
}

}  // namespace

Generation DrawGeneration() {
  uint64_t bits = 0;
  // 0 means "unknown". Without entropy, the time is still another one at each start.
  if (getrandom(&bits, sizeof(bits), 0) != sizeof(bits) || bits == 0) {
    bits = static_cast<uint64_t>(absl::ToUnixNanos(absl::Now()));
  }
  return Generation{bits};
}

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const Config& config, Generation generation,
                                                      std::vector<std::unique_ptr<Lane>> lanes) {
  ServerParts parts;
  absl::StatusOr<std::unique_ptr<Membership>> membership = MakeMembership(config, kVersion);
  if (!membership.ok()) return membership.status();
  parts.membership = *std::move(membership);
  parts.lanes = std::move(lanes);
  return Start(config, generation, std::move(parts));
}

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const Config& config, Generation generation,
                                                      ServerParts parts) {
  auto server = std::unique_ptr<Server>(new Server(config, generation, std::move(parts)));
  for (Lane* lane : server->lane_pointers_) {
    lane->SetSessionLostCallback(
        [sessions = server->sessions_.get()](SessionToken token, const absl::Status& why) {
          sessions->LostByLane(token, why);
        });
    lane->Start();
  }
  if (server->replication_ != nullptr) {
    server->replication_->Start(server->lane_pointers_, server->membership_);
  }
  if (absl::Status s = server->StartControl(config); !s.ok()) return s;
  if (absl::Status s = server->StartMembership(config); !s.ok()) return s;
  if (absl::Status s = server->StartMetrics(config); !s.ok()) return s;
  server->lifecycle_->Ready();
  server->peers_->Start();
  server->calibration_->Start();
  return server;
}

Server::Server(const Config& config, Generation generation, ServerParts parts)
    : facts_{.id = config.node.id,
             .generation = generation,
             .layout = LayoutOf(config),
             .version = kVersion,
             .started = absl::Now(),
             .cuda = DescribeCuda()},
      replicas_(config.replicas),
      parts_(std::move(parts)),
      membership_(parts_.membership.get()),
      replication_(parts_.replication.get()),
      lane_pointers_(Pointers(parts_.lanes)),
      sessions_(std::make_unique<SessionRegistry>(RulesOf(config), lane_pointers_)),
      lifecycle_(std::make_unique<Lifecycle>(lane_pointers_, membership_,
                                             [this](bool serving) {
                                               if (control_ != nullptr)
                                                 control_->SetServing(serving);
                                             })),
      session_service_(
          std::make_unique<SessionService>(&facts_, lane_pointers_, sessions_.get(), &streams_)),
      peers_(std::make_unique<PeerWatch>(&facts_, membership_,
                                         PeerWatchOptions{.tls = config.control.tls})),
      calibration_(std::make_unique<Calibrator>(CalibratorOptionsOf(config, generation),
                                                lane_pointers_, membership_,
                                                [this] { return PeersToMeasure(); })),
      cluster_service_(std::make_unique<ClusterService>(&facts_, membership_, &streams_,
                                                        peers_.get(), calibration_.get())),
      admin_service_(std::make_unique<AdminService>(
          &facts_, lane_pointers_, sessions_.get(), membership_, lifecycle_.get(),
          calibration_.get(), [this] { return SnapshotReplication(); })) {
  for (Lane* lane : lane_pointers_) lane->SetAdmitting(false);
}

Server::~Server() {
  if (!stopped_) (void)Stop(absl::Now());
}

absl::Status Server::StartControl(const Config& config) {
  absl::StatusOr<std::unique_ptr<ControlServer>> control =
      ControlServer::Start({.listen = config.control.listen, .tls = config.control.tls},
                           {session_service_.get(), cluster_service_.get(), admin_service_.get()});
  if (!control.ok()) return control.status();
  control_ = *std::move(control);
  const std::string advertised = AdvertisedAddress(config, control_->port());
  if (IsLoopback(advertised) && !IsLoopback(config.control.listen)) {
    LogWarn(
        "node.advertise is a loopback address: other machines are told to connect to themselves",
        {{"advertised", advertised}, {"listen", config.control.listen}});
  }
  return absl::OkStatus();
}

absl::Status Server::StartMembership(const Config& config) {
  const NodeInfo self{.id = facts_.id,
                      .control_address = AdvertisedAddress(config, control_->port()),
                      .generation = facts_.generation,
                      .capacity_bytes = TotalCacheBytes(config)};
  return membership_->Start(self, [this](const TablePtr& table) {
    LogInfo("routing table", {{"epoch", ToInt(table->epoch())}, {"nodes", table->nodes().size()}});
    // Lanes before frontends: nobody is told of a table that a lane would still refuse.
    for (Lane* lane : lane_pointers_) lane->SetTable(table);
    if (replication_ != nullptr) replication_->SetTable(table);
    streams_.Publish(table);
  });
}

absl::Status Server::StartMetrics(const Config& config) {
  if (config.metrics.listen.empty()) return absl::OkStatus();
  absl::StatusOr<std::unique_ptr<MetricsServer>> metrics = MetricsServer::Start(
      config.metrics.listen,
      std::make_shared<Collector>(
          std::vector<const Lane*>(lane_pointers_.begin(), lane_pointers_.end()),
          [this] { return Snapshot(); }));
  if (!metrics.ok()) return metrics.status();
  metrics_ = *std::move(metrics);
  admin_service_->SetMetricsAddress(metrics_->address());
  return absl::OkStatus();
}

absl::Status Server::Stop(absl::Time deadline) {
  stopped_ = true;
  lifecycle_->Stop();
  calibration_->Stop();
  peers_->Stop();
  sessions_->StopOpening();
  // Operators can watch the drain; frontends that follow the table go elsewhere at once.
  streams_.Close();
  const absl::Status lanes_stopped = StopLanes(deadline);
  if (replication_ != nullptr) replication_->Stop();
  sessions_->Shutdown();
  membership_->Stop();
  if (control_ != nullptr) control_->Shutdown(absl::Now() + kCallGrace);
  metrics_.reset();
  return lanes_stopped;
}

absl::Status Server::StopLanes(absl::Time deadline) {
  std::vector<absl::Status> results(lane_pointers_.size());
  std::vector<std::thread> stoppers;
  for (size_t i = 0; i < lane_pointers_.size(); ++i) {
    stoppers.emplace_back([&, i] { results[i] = lane_pointers_[i]->Stop(deadline); });
  }
  for (std::thread& stopper : stoppers) stopper.join();
  for (size_t i = 0; i < results.size(); ++i) {
    if (results[i].ok()) continue;
    return absl::Status(results[i].code(), absl::StrCat("lane ", i, ": ", results[i].message()));
  }
  return absl::OkStatus();
}

std::vector<absl::Time> Server::LaneTurns() const {
  std::vector<absl::Time> turns;
  for (const Lane* lane : lane_pointers_) turns.push_back(lane->last_turn());
  return turns;
}

ReplicationSnapshot Server::SnapshotReplication() const {
  ReplicationSnapshot snapshot;
  if (const TablePtr table = membership_->table()) {
    snapshot.standing = StandingOf(*table, facts_.id, replicas_);
  }
  if (replication_ != nullptr) snapshot.status = replication_->status();
  return snapshot;
}

// With a list of nodes that never changes, only they themselves say whether they live.
std::vector<LinkPeer> Server::PeersToMeasure() const {
  std::vector<LinkPeer> peers;
  const TablePtr table = membership_->table();
  if (table == nullptr) return peers;
  for (const NodeInfo& node : table->nodes()) {
    if (node.id == facts_.id) continue;
    const auto record = peers_->Find(node.id);
    const bool answers = record.has_value() && (record->state == PeerState::kActive ||
                                                record->state == PeerState::kDraining);
    peers.push_back({.id = node.id,
                     .control_address = node.control_address,
                     .generation = answers ? record->generation : Generation{},
                     .answers = answers});
  }
  return peers;
}

NodeSnapshot Server::Snapshot() const {
  NodeSnapshot node{.node_id = facts_.id,
                    .version = facts_.version,
                    .model = facts_.layout.model,
                    .record = std::string(RecordFormatName(facts_.layout.record_format)),
                    .layout_hash = ToString(HashLayout(facts_.layout)),
                    .state = std::string(LifecycleStateName(lifecycle_->state())),
                    .states = {},
                    .epoch = 0,
                    .table_watches = streams_.count(),
                    .peer_states = {},
                    .peers = {},
                    .authority = membership_->authority(),
                    .calibration = calibration_->status(),
                    .sessions = sessions_->counts(),
                    .replication = SnapshotReplication()};
  for (const LifecycleState state : {LifecycleState::kStarting, LifecycleState::kActive,
                                     LifecycleState::kDraining, LifecycleState::kStopping}) {
    node.states.emplace_back(LifecycleStateName(state));
  }
  for (const PeerState state : kPeerStates) node.peer_states.emplace_back(PeerStateName(state));
  for (const PeerRecord& peer : peers_->peers()) {
    node.peers.push_back({.id = peer.id,
                          .state = std::string(PeerStateName(peer.state)),
                          .differs = !peer.difference.empty()});
  }
  if (const TablePtr table = membership_->table()) node.epoch = ToInt(table->epoch());
  return node;
}

}  // namespace latentd
