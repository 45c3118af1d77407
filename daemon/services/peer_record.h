// What a node knows of one of its peers, and how an answer of that peer, or none, changes it. Pure:
// time comes in, what is to be logged comes out.
//
//     state         entered by
//     kUnknown      construction
//     kActive       an answer of a node that admits
//     kDraining     an answer of a node that does not
//     kUnreachable  kFailuresToGiveUp failures in a row
//
// One failure may be a hiccup and changes nothing; what was last known stays known.
#ifndef LATENTD_DAEMON_SERVICES_PEER_RECORD_H_
#define LATENTD_DAEMON_SERVICES_PEER_RECORD_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "proto/latentd/v1/admin.pb.h"
#include "routing/ids.h"
#include "routing/layout.h"

namespace latentd {

enum class PeerState : uint8_t { kUnknown, kActive, kDraining, kUnreachable };
inline constexpr PeerState kPeerStates[] = {PeerState::kUnknown, PeerState::kActive,
                                            PeerState::kDraining, PeerState::kUnreachable};

std::string_view PeerStateName(PeerState state);

inline constexpr uint32_t kFailuresToGiveUp = 2;
inline constexpr absl::Duration kTableLag = absl::Seconds(10);

struct PeerRecord {
  NodeId id;
  std::string control_address;
  PeerState state = PeerState::kUnknown;
  // Of the last answer:
  Generation generation{};  // 0: it never answered
  std::string version;
  uint64_t capacity_bytes = 0;
  absl::Time last_seen = absl::InfinitePast();  // of a clock that does not jump
  std::string difference;                       // from this node's layout or table; empty: none
  // Since when its epoch and this node's have been two, and these two.
  uint64_t epoch = 0;
  uint64_t own_epoch = 0;
  absl::Time apart_since = absl::InfiniteFuture();

  std::string failure;    // of the last question; empty: it was answered
  uint32_t failures = 0;  // in a row
};

// What a peer is compared with.
struct OwnSide {
  Layout layout;
  uint64_t epoch = 0;              // 0: no table yet, which agrees with any
  uint64_t table_fingerprint = 0;  // as daemon/services/table_fingerprint.h
  // Tables come from an authority, to one node sooner than to another: of two epochs, only one that
  // stands still for kTableLag differs.
  bool epochs_move = false;
};

enum class PeerEvent : uint8_t {
  kUnreachable,  // detail: why
  kReachable,    // again, or for the first time
  kRestarted,    // with another generation: what its cache held is gone
  kDiffers,      // detail: the difference, with both sides' values
  kAgrees,       // no longer differs
};

struct PeerNews {
  PeerEvent event;
  std::string detail;
};

// Takes the answer to one Admin.Status. An answer of a node with another id counts as none.
std::vector<PeerNews> Observe(const absl::StatusOr<v1::StatusResponse>& answer, const OwnSide& own,
                              absl::Time now, PeerRecord& record);

}  // namespace latentd

#endif  // LATENTD_DAEMON_SERVICES_PEER_RECORD_H_
