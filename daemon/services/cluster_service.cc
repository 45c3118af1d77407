#include "daemon/services/cluster_service.h"

#include "absl/strings/str_cat.h"
#include "daemon/lane/steady_time.h"
#include "daemon/services/cost_listing.h"
#include "routing/table_proto.h"

namespace latentd {
namespace {

v1::NodeState ToProto(PeerState state) {
  switch (state) {
    case PeerState::kUnknown:
      break;
    case PeerState::kActive:
      return v1::NODE_STATE_ACTIVE;
    case PeerState::kDraining:
      return v1::NODE_STATE_DRAINING;
    case PeerState::kUnreachable:
      return v1::NODE_STATE_DOWN;
  }
  return v1::NODE_STATE_UNKNOWN;
}

// Over what the membership says: the peer's own word.
void Fill(const PeerRecord& peer, absl::Time now, v1::Node& node) {
  node.set_state(ToProto(peer.state));
  node.set_trouble(absl::StrCat(
      peer.failure, peer.failure.empty() || peer.difference.empty() ? "" : "; ", peer.difference));
  if (peer.generation == Generation{}) return;
  node.set_generation(ToInt(peer.generation));
  node.set_version(peer.version);
  node.set_capacity_bytes(peer.capacity_bytes);
  node.set_silent_ms(static_cast<uint64_t>(absl::ToInt64Milliseconds(now - peer.last_seen)));
}

}  // namespace

grpc::ServerUnaryReactor* ClusterService::GetTable(grpc::CallbackServerContext* context,
                                                   const v1::GetTableRequest*,
                                                   v1::RoutingTable* response) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  if (const TableStreams::Message table = streams_->newest()) {
    *response = *table;
    reactor->Finish(grpc::Status::OK);
  } else {
    reactor->Finish(
        grpc::Status(grpc::StatusCode::UNAVAILABLE,
                     absl::StrCat("node \"", facts_->id, "\" has no routing table yet")));
  }
  return reactor;
}

grpc::ServerWriteReactor<v1::RoutingTable>* ClusterService::WatchTable(
    grpc::CallbackServerContext*, const v1::WatchTableRequest* request) {
  return streams_->NewStream(*request);
}

grpc::ServerUnaryReactor* ClusterService::ListNodes(grpc::CallbackServerContext* context,
                                                    const v1::ListNodesRequest*,
                                                    v1::ListNodesResponse* response) {
  for (const Member& member : membership_->ListNodes()) {
    v1::Node& node = *response->add_nodes();
    node = ToProto(member.node);
    if (!member.heard_from) node.set_state(v1::NODE_STATE_UNKNOWN);
    node.set_version(member.version);
    if (const auto peer = peers_->Find(member.node.id)) Fill(*peer, SteadyNow(), node);
  }
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

grpc::ServerUnaryReactor* ClusterService::GetCosts(grpc::CallbackServerContext* context,
                                                   const v1::GetCostsRequest* request,
                                                   v1::GetCostsResponse* response) {
  *response = ListCosts(calibration_->costs(), *membership_,
                        {request->node_ids().begin(), request->node_ids().end()});
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(grpc::Status::OK);
  return reactor;
}

}  // namespace latentd
