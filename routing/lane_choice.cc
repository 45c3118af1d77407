#include "routing/lane_choice.h"

#include "absl/strings/str_cat.h"
#include "routing/rendezvous.h"

namespace latentd {

uint32_t LaneOf(Slot slot, std::span<const uint64_t> cache_bytes_of_lane) {
  uint32_t best_lane = 0;
  Bid best;
  for (uint32_t lane = 0; lane < cache_bytes_of_lane.size(); ++lane) {
    const Bid bid =
        MakeBid(RendezvousSeed(absl::StrCat("lane ", lane)), slot, cache_bytes_of_lane[lane]);
    // The first of equals wins.
    if (lane == 0 || Beats(bid, best)) {
      best_lane = lane;
      best = bid;
    }
  }
  return best_lane;
}

}  // namespace latentd
