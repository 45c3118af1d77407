// `Layout` to and from the control plane's message.
//
// Pure functions; any thread.
#ifndef LATENTD_ROUTING_LAYOUT_PROTO_H_
#define LATENTD_ROUTING_LAYOUT_PROTO_H_

#include "absl/status/statusor.h"
#include "proto/latentd/v1/cluster.pb.h"
#include "routing/layout.h"

namespace latentd {

// With its hash.
v1::Layout ToProto(const Layout& layout);

// INVALID_ARGUMENT: an unknown record format, or fields that do not give the hash that the message
// carries - then the sender's layout has something that this build does not know, and the bytes
// must not be exchanged. A hash of 0 is not checked.
absl::StatusOr<Layout> FromProto(const v1::Layout& message);

}  // namespace latentd

#endif  // LATENTD_ROUTING_LAYOUT_PROTO_H_
