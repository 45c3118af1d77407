#include "daemon/services/admin_service.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "daemon/lane/lane.h"
#include "daemon/process/log.h"
#include "daemon/services/chunk_listing.h"
#include "daemon/services/cost_listing.h"
#include "daemon/services/grpc_status.h"
#include "routing/chunk_id.h"
#include "routing/layout_proto.h"
#include "transport/wire.h"

namespace latentd {
namespace {

// Listings, drains and resumes at a time.
constexpr size_t kMaxBlocking = 16;

v1::NodeState ToProto(LifecycleState state) {
  switch (state) {
    case LifecycleState::kStarting:
      return v1::NODE_STATE_UNSPECIFIED;
    case LifecycleState::kActive:
      return v1::NODE_STATE_ACTIVE;
    case LifecycleState::kDraining:
    case LifecycleState::kStopping:
      return v1::NODE_STATE_DRAINING;
  }
  return v1::NODE_STATE_UNSPECIFIED;
}

uint64_t CountErrors(const LaneStats& stats) {
  uint64_t errors = stats.malformed_messages.Get();
  // Index 0 is OK.
  for (size_t i = 1; i < stats.replies_by_code.size(); ++i)
    errors += stats.replies_by_code[i].Get();
  return errors;
}

void FillLane(const Lane& lane, v1::LaneStatus& to) {
  const LaneStats& stats = lane.stats();
  to.set_index(lane.options().index);
  to.set_device(lane.options().device);
  to.set_backend(lane.DescribeBackend());
  to.set_transports(lane.Transports());
  to.set_cache_bytes(lane.options().cache_bytes);
  to.set_pages_total(stats.pages_total.Get());
  to.set_pages_free(stats.pages_free.Get());
  to.set_chunks_open(stats.chunks_open.Get());
  to.set_chunks_sealed(stats.chunks_sealed.Get());
  to.set_chunks_pinned(stats.chunks_pinned.Get());
  to.set_requests_in_flight(stats.requests_in_flight.Get());
  to.set_bytes_in_flight(stats.bytes_in_flight.Get());
  to.set_attend_requests(stats.requests[static_cast<size_t>(wire::Opcode::kAttend)].Get());
  to.set_attend_rows(stats.attend_rows.Get());
  to.set_evicted_chunks(stats.evicted_chunks.Get());
  to.set_errors(CountErrors(stats));
}

void FillAuthority(const AuthorityStatus& from, v1::AuthorityStatus& to) {
  to.set_coordinator(from.coordinator);
  if (from.coordinator_since != absl::InfinitePast())
    to.set_coordinator_since_unix_ms(absl::ToUnixMillis(from.coordinator_since));
  to.set_coordinates(from.coordinates);
  to.set_registered(from.registered);
  to.set_lease(from.lease);
  to.set_serves_for_ms(static_cast<uint64_t>(absl::ToInt64Milliseconds(from.serves_for)));
  for (const std::string& trouble : from.troubles) to.add_troubles(trouble);
}

void FillReplication(const ReplicationSnapshot& from, v1::ReplicationStatus& to) {
  const SlotSyncProgress& sync = from.status.sync;
  const ForwardStats& forward = from.status.forward;
  to.set_slots_primary(from.standing.primary);
  to.set_slots_held(from.standing.held);
  to.set_slots_joining(from.standing.joining);
  to.set_slots_copied(sync.claimed);
  to.set_copies_under_way(sync.copies);
  to.set_chunks_copied(sync.counts.chunks);
  to.set_bytes_copied(sync.counts.bytes);
  to.set_copy_bytes_per_second(from.status.copied_per_second);
  to.set_copy_failures(sync.counts.failures + sync.failed_lists);
  to.set_last_copy_failure(std::string(sync.last_failure.message()));
  to.set_chunks_repaired(sync.repaired);
  to.set_chunks_damaged(sync.damaged);
  for (const ChunkId& chunk : sync.damaged_some) to.add_damaged_chunks(ToString(chunk));
  to.set_forwards_under_way(forward.under_way);
  to.set_oldest_forward_ms(
      static_cast<uint64_t>(std::max<int64_t>(absl::ToInt64Milliseconds(forward.oldest), 0)));
  to.set_forwards_failed(forward.failed);
  to.set_cluster_degraded_slots(from.standing.cluster.degraded);
  to.set_cluster_moving_slots(from.standing.cluster.moving);
}

}  // namespace

AdminService::AdminService(const NodeFacts* facts, std::vector<Lane*> lanes,
                           SessionRegistry* sessions, const Membership* membership,
                           Lifecycle* lifecycle, Calibrator* calibration,
                           std::function<ReplicationSnapshot()> replication)
    : facts_(facts),
      lanes_(std::move(lanes)),
      sessions_(sessions),
      membership_(membership),
      lifecycle_(lifecycle),
      calibration_(calibration),
      replication_(std::move(replication)),
      blocking_(kMaxBlocking) {}

void AdminService::SetMetricsAddress(std::string address) {
  const std::lock_guard<std::mutex> lock(mutex_);
  metrics_address_ = std::move(address);
}

grpc::ServerUnaryReactor* AdminService::Status(grpc::CallbackServerContext* context,
                                               const v1::StatusRequest*,
                                               v1::StatusResponse* response) {
  return Answer(context, DescribeNode(response));
}

grpc::Status AdminService::DescribeNode(v1::StatusResponse* response) {
  const LifecycleState state = lifecycle_->state();
  if (state == LifecycleState::kStarting) {
    // Whoever waits for the node waits until it serves, not until it listens.
    return ToGrpc(absl::UnavailableError(absl::StrCat("node \"", facts_->id, "\" is starting")));
  }
  response->set_node_id(facts_->id);
  response->set_version(facts_->version);
  response->set_generation(ToInt(facts_->generation));
  response->set_state(ToProto(state));
  response->set_uptime_ms(
      static_cast<uint64_t>(absl::ToInt64Milliseconds(absl::Now() - facts_->started)));
  if (const TablePtr table = membership_->table()) {
    response->set_epoch(ToInt(table->epoch()));
    response->set_table_fingerprint(fingerprints_.Of(table));
  }
  *response->mutable_layout() = ToProto(facts_->layout);
  response->set_membership(std::string(membership_->name()));
  if (const auto authority = membership_->authority())
    FillAuthority(*authority, *response->mutable_authority());
  response->set_sessions(static_cast<uint32_t>(sessions_->counts().live));
  for (const Lane* lane : lanes_) FillLane(*lane, *response->add_lanes());
  response->set_cuda(facts_->cuda);
  if (replication_) FillReplication(OwnReplication(), *response->mutable_replication());
  const std::lock_guard<std::mutex> lock(mutex_);
  response->set_metrics_address(metrics_address_);
  return grpc::Status::OK;
}

ReplicationSnapshot AdminService::OwnReplication() const {
  ReplicationSnapshot snapshot = replication_();
  const TablePtr table = membership_->table();
  const auto self = table == nullptr ? std::nullopt : table->FindNode(facts_->id);
  if (!self) return snapshot;
  const Generation named = table->node(*self).generation;
  if (named != Generation{} && named != facts_->generation) {
    // The slots of the id are another daemon's, or of a life of this one that is over.
    snapshot.standing.primary = snapshot.standing.held = snapshot.standing.joining = 0;
  }
  return snapshot;
}

grpc::ServerUnaryReactor* AdminService::Chunks(grpc::CallbackServerContext* context,
                                               const v1::ChunksRequest* request,
                                               v1::ChunksResponse* response) {
  return blocking_.Run(context, [this, request, response] {
    absl::StatusOr<v1::ChunksResponse> listing = ListChunks(lanes_, *request, absl::Seconds(5));
    if (!listing.ok()) return ToGrpc(listing.status());
    *response = *std::move(listing);
    return grpc::Status::OK;
  });
}

grpc::ServerUnaryReactor* AdminService::Drain(grpc::CallbackServerContext* context,
                                              const v1::DrainRequest*,
                                              v1::DrainResponse* response) {
  return blocking_.Run(context, [this, peer = context->peer(), response] {
    LogInfo("drain asked for", {{"peer", peer}});
    const absl::Status drained = lifecycle_->Drain();
    response->set_requests_in_flight(lifecycle_->RequestsInFlight());
    response->set_hands_over(membership_->hands_over());
    if (replication_) response->set_slots_held(OwnReplication().standing.held);
    return ToGrpc(drained);
  });
}

grpc::ServerUnaryReactor* AdminService::Resume(grpc::CallbackServerContext* context,
                                               const v1::ResumeRequest*, v1::ResumeResponse*) {
  return blocking_.Run(context, [this, peer = context->peer()] {
    LogInfo("resume asked for", {{"peer", peer}});
    return ToGrpc(lifecycle_->Resume());
  });
}

grpc::ServerUnaryReactor* AdminService::Calibrate(grpc::CallbackServerContext* context,
                                                  const v1::CalibrateRequest* request,
                                                  v1::CalibrateResponse* response) {
  return blocking_.Run(context, [this, peer = context->peer(), request, response] {
    LogInfo("calibration asked for", {{"peer", peer}});
    const bool both = !request->compute() && !request->links();
    const absl::Time began = absl::Now();
    const absl::Status measured =
        calibration_->Now(both || request->compute(), both || request->links());
    if (!measured.ok()) return ToGrpc(measured);
    *response->mutable_costs() = calibration_->costs();
    for (std::string& trouble : calibration_->status().troubles) {
      response->add_troubles(std::move(trouble));
    }
    response->set_took_ms(static_cast<uint64_t>(absl::ToInt64Milliseconds(absl::Now() - began)));
    return grpc::Status::OK;
  });
}

grpc::ServerUnaryReactor* AdminService::Costs(grpc::CallbackServerContext* context,
                                              const v1::CostsRequest*,
                                              v1::CostsResponse* response) {
  v1::GetCostsResponse costs = ListCosts(calibration_->costs(), *membership_, {});
  for (std::string& line : QuarantinedCosts(costs, membership_->table().get(), absl::Now())) {
    response->add_quarantined(std::move(line));
  }
  response->mutable_nodes()->Swap(costs.mutable_nodes());
  response->set_every_node(costs.every_node());
  CalibrationStatus status = calibration_->status();
  response->set_calibrating(status.under_way);
  for (std::string& trouble : status.troubles) response->add_troubles(std::move(trouble));
  return Answer(context, grpc::Status::OK);
}

}  // namespace latentd
