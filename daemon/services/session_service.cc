#include "daemon/services/session_service.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "daemon/lane/lane.h"
#include "daemon/process/log.h"
#include "daemon/services/grpc_status.h"
#include "routing/layout_proto.h"
#include "transport/wire.h"

namespace latentd {
namespace {

constexpr size_t kMaxClientNameBytes = 256;
// A worker with many devices has an address of some kilobytes.
constexpr size_t kMaxWorkerAddressBytes = 64 << 10;
// At a time.
constexpr size_t kMaxOpening = 64;

uint32_t TtlMs(const SessionRegistry& sessions) {
  return static_cast<uint32_t>(absl::ToInt64Milliseconds(sessions.ttl()));
}

// REQUIRES: a lane. Lanes differ only in what they can compute.
void FillLimits(const std::vector<Lane*>& lanes, v1::Limits& to) {
  const LaneOptions& options = lanes.front()->options();
  const LaneLimits& limits = options.limits;
  uint64_t work = limits.work_per_request;
  for (const Lane* lane : lanes) work = std::min(work, lane->options().limits.work_per_request);
  to.set_inflight_requests(limits.inflight_per_session);
  to.set_inflight_bytes(limits.inflight_bytes_per_session);
  to.set_chunks_per_request(limits.chunks_per_request);
  to.set_rows_per_request(limits.rows_per_request);
  to.set_work_per_request(work);
  to.set_payload_bytes_per_request(limits.payload_bytes_per_request);
  to.set_publish_bytes_per_request(
      std::min(limits.payload_bytes_per_request, limits.publish_bytes_per_request));
  to.set_max_lease_ms(absl::ToInt64Milliseconds(options.max_lease));
}

bool IsIn(const v1::RoutingTable& table, std::string_view node) {
  return std::any_of(table.nodes().begin(), table.nodes().end(),
                     [&](const v1::Node& known) { return known.id() == node; });
}

// A second daemon of an id learns from the table that the id is another's. Whoever came to it for
// the id's slots would never get an answer.
absl::Status CheckIdIsOurs(const NodeFacts& facts, const v1::RoutingTable& table) {
  for (const v1::Node& node : table.nodes()) {
    // 0: the table knows nodes by their ids alone.
    if (node.id() != facts.id || node.generation() == 0) continue;
    if (node.generation() == ToInt(facts.generation)) continue;
    return absl::UnavailableError(absl::StrFormat(
        "node id \"%s\" is that of the daemon at %s, generation %016x, as of epoch %d; this daemon "
        "is generation %016x and answers for no slot",
        facts.id, node.control_address(), node.generation(), table.epoch(),
        ToInt(facts.generation)));
  }
  return absl::OkStatus();
}

void FillLane(const Lane& lane, v1::Lane& to) {
  to.set_index(lane.options().index);
  to.set_worker_address(lane.worker_address());
  to.set_device(lane.options().device);
  to.set_cache_bytes(lane.options().cache_bytes);
}

}  // namespace

SessionService::SessionService(const NodeFacts* facts, std::vector<Lane*> lanes,
                               SessionRegistry* sessions, const TableStreams* tables)
    : facts_(facts),
      lanes_(std::move(lanes)),
      sessions_(sessions),
      tables_(tables),
      opening_(kMaxOpening) {}

grpc::ServerUnaryReactor* SessionService::Open(grpc::CallbackServerContext* context,
                                               const v1::OpenRequest* request,
                                               v1::OpenResponse* response) {
  return opening_.Run(context, [this, peer = context->peer(), request, response] {
    return OpenOrRefuse(peer, *request, *response);
  });
}

grpc::ServerUnaryReactor* SessionService::Renew(grpc::CallbackServerContext* context,
                                                const v1::RenewRequest* request,
                                                v1::RenewResponse* response) {
  const absl::Status renewed =
      sessions_->Renew({.hi = request->token_hi(), .lo = request->token_lo()});
  if (renewed.ok()) response->set_ttl_ms(TtlMs(*sessions_));
  return Answer(context, ToGrpc(renewed));
}

grpc::ServerUnaryReactor* SessionService::Close(grpc::CallbackServerContext* context,
                                                const v1::CloseRequest* request,
                                                v1::CloseResponse*) {
  return Answer(context,
                ToGrpc(sessions_->Close({.hi = request->token_hi(), .lo = request->token_lo()})));
}

grpc::Status SessionService::OpenOrRefuse(const std::string& peer, const v1::OpenRequest& request,
                                          v1::OpenResponse& response) {
  if (const absl::Status checked = CheckOpen(request); !checked.ok()) {
    LogWarn("session refused", {{"client", request.client_name()},
                                {"peer", peer},
                                {"reason", std::string(checked.message())}});
    return ToGrpc(checked);
  }
  const TableStreams::Message table = tables_->newest();
  if (table == nullptr) {
    return ToGrpc(
        absl::UnavailableError(absl::StrCat("node \"", facts_->id, "\" has no routing table yet")));
  }
  if (const absl::Status ours = CheckIdIsOurs(*facts_, *table); !ours.ok()) return ToGrpc(ours);
  if (!request.peer_node().empty() && !IsIn(*table, request.peer_node())) {
    // Its table may be newer than this node's: it will ask again.
    return ToGrpc(absl::UnavailableError(absl::StrCat("node \"", facts_->id,
                                                      "\" knows of no node \"", request.peer_node(),
                                                      "\" as of epoch ", table->epoch())));
  }
  const std::string name = request.client_name().empty() ? peer : request.client_name();
  absl::StatusOr<SessionGrant> grant =
      sessions_->Open(name, request.worker_address(), absl::Seconds(5), request.peer_node());
  if (!grant.ok()) {
    LogWarn("session refused",
            {{"client", name}, {"peer", peer}, {"reason", std::string(grant.status().message())}});
    return ToGrpc(grant.status());
  }
  if (request.peer_node().empty()) {
    LogInfo("session opened", {{"client", name}, {"peer", peer}, {"tenant", grant->tenant}});
  } else {
    LogInfo("session of a node opened", {{"node", request.peer_node()}, {"peer", peer}});
  }

  response.set_token_hi(grant->token.hi);
  response.set_token_lo(grant->token.lo);
  response.set_ttl_ms(TtlMs(*sessions_));
  response.set_node_id(facts_->id);
  response.set_generation(ToInt(facts_->generation));
  response.set_tenant(grant->tenant);
  for (const Lane* lane : lanes_) FillLane(*lane, *response.add_lanes());
  if (!lanes_.empty()) FillLimits(lanes_, *response.mutable_limits());
  *response.mutable_layout() = ToProto(facts_->layout);
  *response.mutable_table() = *table;
  response.set_protocol_version(wire::kVersion);
  return grpc::Status::OK;
}

absl::Status SessionService::LayoutMismatch(const v1::OpenRequest& request) const {
  const LayoutHash hash{request.layout_hash()};
  const std::string node = absl::StrCat("layout mismatch: node \"", facts_->id, "\"");
  const std::string ours =
      absl::StrCat(ToString(HashLayout(facts_->layout)), " (", ToString(facts_->layout), ")");
  // Only a client that has seen a layout in full can send it.
  const absl::StatusOr<Layout> theirs = FromProto(request.layout());
  if (!theirs.ok() || HashLayout(*theirs) != hash) {
    return absl::FailedPreconditionError(
        absl::StrCat(node, " holds ", ours, ", the client expects ", ToString(hash)));
  }
  return absl::FailedPreconditionError(
      absl::StrCat(node, " has ", LayoutDifference(facts_->layout, *theirs), ": it holds ", ours,
                   ", the client expects ", ToString(hash), " (", ToString(*theirs), ")"));
}

absl::Status SessionService::CheckOpen(const v1::OpenRequest& request) const {
  if (request.protocol_version() != wire::kVersion) {
    return absl::FailedPreconditionError(absl::StrCat("protocol_version: the client speaks ",
                                                      request.protocol_version(), ", node \"",
                                                      facts_->id, "\" speaks ", wire::kVersion));
  }
  const LayoutHash ours = HashLayout(facts_->layout);
  if (request.layout_hash() != 0 && request.layout_hash() != ToInt(ours)) {
    return LayoutMismatch(request);
  }
  if (request.worker_address().empty()) {
    return absl::InvalidArgumentError("worker_address: empty");
  }
  if (request.worker_address().size() > kMaxWorkerAddressBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("worker_address: ", request.worker_address().size(), " bytes, at most ",
                     kMaxWorkerAddressBytes));
  }
  if (request.client_name().size() > kMaxClientNameBytes) {
    return absl::InvalidArgumentError(absl::StrCat("client_name: ", request.client_name().size(),
                                                   " bytes, at most ", kMaxClientNameBytes));
  }
  return absl::OkStatus();
}

}  // namespace latentd
