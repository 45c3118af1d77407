#include "routing/lane_choice.h"

#include "absl/strings/str_cat.h"
#include "routing/rendezvous.h"

namespace latentd {

uint32_t LaneOfSlot(Slot slot, std::span<const uint64_t> lane_cache_bytes) {
  if (lane_cache_bytes.size() == 1) return 0;
  uint32_t best_lane = 0;
  Bid best;
  for (uint32_t lane = 0; lane < lane_cache_bytes.size(); ++lane) {
    if (lane_cache_bytes[lane] == 0) continue;
    // The index, not the device's name, is the member: lanes of one node have no other identity
    // that lasts.
    const Bid bid =
        MakeBid(RendezvousSeed(absl::StrCat("lane ", lane)), slot, lane_cache_bytes[lane]);
    // The first of equals wins.
    if (best.weight == 0 || Beats(bid, best)) {
      best_lane = lane;
      best = bid;
    }
  }
  return best_lane;
}

}  // namespace latentd
