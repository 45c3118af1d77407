#include "client/session_info.h"

#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "routing/layout_proto.h"
#include "routing/table_proto.h"

namespace latentd {
namespace {

absl::Status Unusable(std::string_view what) {
  return absl::InternalError(
      absl::StrCat("the daemon's answer to Session.Open cannot be used: ", std::string(what)));
}

// 0 on the wire is "no bound".
template <typename T>
T Bound(T value) {
  return value == 0 ? std::numeric_limits<T>::max() : value;
}

}  // namespace

absl::StatusOr<SessionInfo> SessionFromProto(const v1::OpenResponse& response) {
  SessionInfo session;
  session.token = {response.token_hi(), response.token_lo()};
  session.ttl = absl::Milliseconds(response.ttl_ms());
  session.node = response.node_id();
  session.generation = static_cast<Generation>(response.generation());
  if (session.node.empty()) return Unusable("no node id");
  if (session.ttl <= absl::ZeroDuration()) return Unusable("no ttl");

  std::vector<const v1::Lane*> by_index(response.lanes_size(), nullptr);
  for (const v1::Lane& lane : response.lanes()) {
    if (lane.index() >= by_index.size() || by_index[lane.index()] != nullptr) {
      return Unusable(absl::StrCat("lane index ", lane.index(), " of ", by_index.size(), " lanes"));
    }
    by_index[lane.index()] = &lane;
  }
  if (by_index.empty()) return Unusable("no lanes");
  for (const v1::Lane* lane : by_index) {
    if (lane->worker_address().empty()) return Unusable("a lane without address");
    session.lanes.push_back({lane->worker_address(), lane->device(), lane->cache_bytes()});
  }

  const v1::Limits& limits = response.limits();
  session.limits = {.inflight_requests = Bound(limits.inflight_requests()),
                    .inflight_bytes = Bound(limits.inflight_bytes()),
                    .chunks_per_request = Bound(limits.chunks_per_request()),
                    .rows_per_request = Bound(limits.rows_per_request()),
                    .work_per_request = Bound(limits.work_per_request()),
                    .payload_bytes_per_request = Bound(limits.payload_bytes_per_request()),
                    .publish_bytes_per_request = Bound(limits.publish_bytes_per_request()),
                    .max_lease_ms = Bound(limits.max_lease_ms())};

  absl::StatusOr<Layout> layout = FromProto(response.layout());
  if (!layout.ok()) return Unusable(std::string(layout.status().message()));
  session.layout = *std::move(layout);
  auto table = FromProto(response.table());
  if (!table.ok()) return Unusable(std::string(table.status().message()));
  session.table = *std::move(table);
  return session;
}

}  // namespace latentd
