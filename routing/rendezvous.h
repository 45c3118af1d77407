// The arithmetic of weighted rendezvous hashing, in integers so that every machine and compiler
// agrees.
//
// Each member bids for each slot. A pseudo-random u in (0, 1) of (member, slot) makes the member's
// distance -log2(u), which is exponentially distributed; the member with the smallest distance /
// weight wins. The chance of that is its weight's share of all weights, and changing one member
// changes no other member's bid.
//
// Pure functions; any thread.
#ifndef LATENTD_ROUTING_RENDEZVOUS_H_
#define LATENTD_ROUTING_RENDEZVOUS_H_

#include <cstdint>
#include <string_view>

#include "routing/ids.h"

namespace latentd {

// What makes one member's numbers independent of another's.
uint64_t RendezvousSeed(std::string_view member_name);

// Bits after the binary point of a distance.
inline constexpr int kDistanceFractionBits = 48;

// -log2(u) for u = hash / 2^64 (hash 0 counts as 1): piecewise linear between 1024 exact points an
// octave, so a member's share is off by less than 0.01 % of itself.
uint64_t DistanceOf(uint64_t hash);

// Independent of the same slot's with another seed.
uint64_t HashOf(Slot slot, uint64_t seed);

struct Bid {
  uint64_t distance = 0;
  uint64_t weight = 0;  // > 0
};

Bid MakeBid(uint64_t member_seed, Slot slot, uint64_t weight);

// Whether `a` wins over `b`. Equal bids beat neither way: the caller breaks ties by something that
// all machines share.
bool Beats(const Bid& a, const Bid& b);

}  // namespace latentd

#endif  // LATENTD_ROUTING_RENDEZVOUS_H_
