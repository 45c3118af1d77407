#include "daemon/services/peer_record.h"

#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "routing/layout_proto.h"

namespace latentd {
namespace {

std::string LayoutTrouble(const v1::Layout& theirs, const Layout& ours) {
  if (theirs.hash() == ToInt(HashLayout(ours))) return "";
  const absl::StatusOr<Layout> layout = FromProto(theirs);
  if (!layout.ok()) return std::string(layout.status().message());
  return absl::StrCat("layout: ", LayoutDifference(*layout, ours));
}

std::string TableTrouble(const v1::StatusResponse& theirs, const OwnSide& own,
                         absl::Duration apart) {
  if (theirs.epoch() == 0 || own.epoch == 0) return "";
  if (theirs.epoch() != own.epoch) {
    if (own.epochs_move && apart < kTableLag) return "";
    return absl::StrCat("routing table: epoch ", theirs.epoch(), " instead of ", own.epoch);
  }
  // Builds from before fingerprints tell none.
  if (theirs.table_fingerprint() == 0 || theirs.table_fingerprint() == own.table_fingerprint) {
    return "";
  }
  return absl::StrFormat(
      "routing table: another one of epoch %d, %016x instead of %016x; membership.peers or "
      "replicas differ",
      own.epoch, theirs.table_fingerprint(), own.table_fingerprint);
}

std::string Difference(const v1::StatusResponse& theirs, const OwnSide& own, absl::Duration apart) {
  const std::string layout = LayoutTrouble(theirs.layout(), own.layout);
  const std::string table = TableTrouble(theirs, own, apart);
  return absl::StrCat(layout, layout.empty() || table.empty() ? "" : "; ", table);
}

std::vector<PeerNews> ObserveFailure(std::string why, PeerRecord& record) {
  record.failure = std::move(why);
  ++record.failures;
  if (record.failures < kFailuresToGiveUp || record.state == PeerState::kUnreachable) return {};
  record.state = PeerState::kUnreachable;
  return {{PeerEvent::kUnreachable, record.failure}};
}

}  // namespace

std::string_view PeerStateName(PeerState state) {
  switch (state) {
    case PeerState::kUnknown:
      return "unknown";
    case PeerState::kActive:
      return "active";
    case PeerState::kDraining:
      return "draining";
    case PeerState::kUnreachable:
      return "unreachable";
  }
  return "unknown";
}

std::vector<PeerNews> Observe(const absl::StatusOr<v1::StatusResponse>& answer, const OwnSide& own,
                              absl::Time now, PeerRecord& record) {
  if (!answer.ok()) return ObserveFailure(std::string(answer.status().message()), record);
  if (answer->node_id() != record.id) {
    return ObserveFailure(
        absl::StrCat(record.control_address, " answers as node \"", answer->node_id(), "\""),
        record);
  }
  std::vector<PeerNews> news;
  if (record.state == PeerState::kUnknown || record.state == PeerState::kUnreachable) {
    news.push_back({PeerEvent::kReachable, ""});
  }
  const Generation generation{answer->generation()};
  if (record.generation != Generation{} && record.generation != generation) {
    news.push_back({PeerEvent::kRestarted, ""});
  }
  if (answer->epoch() == own.epoch) {
    record.apart_since = absl::InfiniteFuture();
  } else if (record.apart_since == absl::InfiniteFuture() || record.epoch != answer->epoch() ||
             record.own_epoch != own.epoch) {
    record.apart_since = now;
  }
  record.epoch = answer->epoch();
  record.own_epoch = own.epoch;
  std::string difference = Difference(*answer, own, now - record.apart_since);
  if (difference != record.difference) {
    news.push_back({difference.empty() ? PeerEvent::kAgrees : PeerEvent::kDiffers, difference});
  }
  record.state =
      answer->state() == v1::NODE_STATE_ACTIVE ? PeerState::kActive : PeerState::kDraining;
  record.generation = generation;
  record.version = answer->version();
  record.capacity_bytes = 0;
  for (const v1::LaneStatus& lane : answer->lanes()) record.capacity_bytes += lane.cache_bytes();
  record.last_seen = now;
  record.difference = std::move(difference);
  record.failure.clear();
  record.failures = 0;
  return news;
}

}  // namespace latentd
