// `RoutingTable` to and from the control plane's message.
//
// Pure functions; any thread.
#ifndef LATENTD_ROUTING_TABLE_PROTO_H_
#define LATENTD_ROUTING_TABLE_PROTO_H_

#include <memory>

#include "absl/status/statusor.h"
#include "proto/latentd/v1/cluster.pb.h"
#include "routing/routing_table.h"

namespace latentd {

v1::NodeState ToProto(NodeState state);
v1::Node ToProto(const NodeInfo& node);
v1::SlotRange ToProto(const SlotRange& range);
v1::RoutingTable ToProto(const RoutingTable& table);

// INVALID_ARGUMENT: a node state that this build does not know.
absl::StatusOr<NodeInfo> FromProto(const v1::Node& node);
// INVALID_ARGUMENT: a holder that is no NodeIndex.
absl::StatusOr<SlotRange> FromProto(const v1::SlotRange& range);
// INVALID_ARGUMENT: the above, whatever RoutingTable::Create refuses, and a message that says only
// what has changed (routing/table_delta.h).
absl::StatusOr<std::shared_ptr<const RoutingTable>> FromProto(const v1::RoutingTable& message);

}  // namespace latentd

#endif  // LATENTD_ROUTING_TABLE_PROTO_H_
