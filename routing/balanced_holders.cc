#include "routing/balanced_holders.h"

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "routing/fair_shares.h"
#include "routing/rendezvous.h"

namespace latentd {
namespace {

__extension__ using Uint128 = unsigned __int128;

constexpr int kDraws = 8;
constexpr int kPasses = 4;  // most need one

uint32_t Floor(uint64_t share) { return static_cast<uint32_t>(share >> kShareFractionBits); }
uint32_t Ceil(uint64_t share) {
  return static_cast<uint32_t>((share + (uint64_t{1} << kShareFractionBits) - 1) >>
                               kShareFractionBits);
}

// A node that can hold slots. Nodes are numbered anew: by their place among the eligible.
struct Member {
  uint64_t share = 0;  // in blocks, times 2^kShareFractionBits
  uint32_t load = 0;
  uint32_t primaries = 0;
  uint64_t seed = 0;

  uint32_t least() const { return Floor(share * 3 / 4); }
  // What it is given by chance ends here.
  uint32_t room() const { return std::max(Ceil(share), Floor(share * 17 / 16)); }
  uint32_t most() const { return std::max(Ceil(share), Floor(share * 6 / 5)); }
};

// Whether `a` has less of its share than `b`.
bool Emptier(const Member& a, const Member& b) { return a.load * b.share < b.load * a.share; }
bool LeadsLess(const Member& a, const Member& b) {
  return a.primaries * b.share < b.primaries * a.share;
}

class Balance {
 public:
  Balance(std::span<const NodeInfo> nodes, std::vector<NodeIndex> eligible, uint32_t replicas,
          uint32_t block_slots)
      : nodes_(nodes),
        eligible_(std::move(eligible)),
        per_block_(std::min(replicas, static_cast<uint32_t>(eligible_.size()))),
        block_slots_(block_slots),
        blocks_(kSlotCount / block_slots),
        holders_(blocks_) {
    const std::vector<uint64_t> shares = FairShares(nodes, eligible_, per_block_, blocks_);
    members_.resize(eligible_.size());
    for (size_t i = 0; i < members_.size(); ++i) {
      members_[i].share = shares[i];
      members_[i].seed = RendezvousSeed(nodes[eligible_[i]].id);
      shares_up_to_.push_back(shares[i] + (i == 0 ? 0 : shares_up_to_.back()));
    }
  }

  void TakeOver(const RoutingTable& previous);
  void Fill();
  void RaiseAll();
  void Relieve();
  void ChoosePrimaries();
  bool EvenOutPrimaries();
  // Whether everything is as the table before had it, and nobody joins anything.
  bool Settled() const {
    return std::all_of(holders_.begin(), holders_.end(),
                       [](const Block& block) { return block.held == block.size; });
  }
  DesiredHolders Result() const;

 private:
  using Number = NodeIndex;  // of a member

  // First those that hold it already, then those that join it already, each in the table's order.
  struct Block {
    uint8_t size = 0;
    uint8_t held = 0;
    uint8_t known = 0;  // held, or joining already
    Number of[kMaxReplicas] = {};
  };

  static bool Has(const Block& block, Number number) {
    return std::find(block.of, block.of + block.size, number) != block.of + block.size;
  }
  void Add(Block& block, Number number) {
    block.of[block.size++] = number;
    ++members_[number].load;
  }
  void Remove(Block& block, uint32_t place) {
    --members_[block.of[place]].load;
    std::copy(block.of + place + 1, block.of + block.size, block.of + place);
    --block.size;
    if (place < block.held) --block.held;
    if (place < block.known) --block.known;
  }
  uint32_t FullestOf(const Block& block) const {
    uint32_t fullest = 0;
    for (uint32_t i = 1; i < block.size; ++i) {
      if (Emptier(members_[block.of[fullest]], members_[block.of[i]])) fullest = i;
    }
    return fullest;
  }

  // Blocks in an order of the member's own: the i-th.
  uint32_t Walk(const Member& member, uint32_t i) const {
    const auto start = static_cast<uint32_t>(member.seed);
    const auto stride = static_cast<uint32_t>(member.seed >> 32) | 1U;
    return (start + i * stride) & (blocks_ - 1);
  }
  Number Pick(uint32_t random) const {
    const auto point = static_cast<uint64_t>(Uint128{shares_up_to_.back()} * random >> 32);
    const auto found = std::upper_bound(shares_up_to_.begin(), shares_up_to_.end(), point);
    return static_cast<Number>(found - shares_up_to_.begin());
  }
  std::optional<Number> DrawOneWithRoom(uint32_t number) const;
  Number EmptiestFor(const Block& block) const;
  void Raise(Number number, uint32_t goal, bool from_those_below);

  const std::span<const NodeInfo> nodes_;
  const std::vector<NodeIndex> eligible_;
  const uint32_t per_block_;
  const uint32_t block_slots_;
  const uint32_t blocks_;
  std::vector<Member> members_;
  std::vector<uint64_t> shares_up_to_;
  std::vector<Block> holders_;
};

void Balance::TakeOver(const RoutingTable& previous) {
  absl::flat_hash_map<std::string_view, Number> number_of;
  for (size_t i = 0; i < eligible_.size(); ++i) {
    number_of.emplace(nodes_[eligible_[i]].id, static_cast<Number>(i));
  }
  std::vector<std::optional<Number>> now;
  for (const NodeInfo& node : previous.nodes()) {
    const auto found = number_of.find(node.id);
    now.push_back(found == number_of.end() ? std::nullopt : std::optional(found->second));
  }
  for (uint32_t number = 0; number < blocks_; ++number) {
    const Slot slot{static_cast<uint16_t>(number * block_slots_)};
    Block& block = holders_[number];
    uint32_t joining = 0;
    for (const NodeIndex node : previous.JoiningOf(slot)) joining += now[node] ? 1 : 0;
    const uint32_t holding = per_block_ - std::min(joining, per_block_);
    for (const NodeIndex node : previous.HoldersOf(slot)) {
      if (block.size < holding && now[node]) Add(block, *now[node]);
    }
    block.held = block.size;
    for (const NodeIndex node : previous.JoiningOf(slot)) {
      if (block.size < per_block_ && now[node]) Add(block, *now[node]);
    }
    block.known = block.size;
  }
}

// Two members at a time, the emptier one of those that have room.
std::optional<Balance::Number> Balance::DrawOneWithRoom(uint32_t number) const {
  const Block& block = holders_[number];
  for (int draw = 0; draw < kDraws; ++draw) {
    const uint64_t random = HashOf(Slot{static_cast<uint16_t>(number)},
                                   static_cast<uint64_t>(draw) * kMaxReplicas + block.size);
    std::optional<Number> best;
    for (const uint32_t half :
         {static_cast<uint32_t>(random), static_cast<uint32_t>(random >> 32)}) {
      const Number picked = Pick(half);
      const Member& member = members_[picked];
      if (member.load >= member.room() || Has(block, picked)) continue;
      if (!best || Emptier(member, members_[*best])) best = picked;
    }
    if (best) return best;
  }
  return std::nullopt;
}

Balance::Number Balance::EmptiestFor(const Block& block) const {
  std::optional<Number> best;
  for (size_t i = 0; i < members_.size(); ++i) {
    const auto number = static_cast<Number>(i);
    if (best && !Emptier(members_[i], members_[*best])) continue;
    if (!Has(block, number)) best = number;
  }
  return *best;  // a block has fewer holders than there are members
}

void Balance::Fill() {
  for (uint32_t number = 0; number < blocks_; ++number) {
    Block& block = holders_[number];
    while (block.size < per_block_) {
      const std::optional<Number> drawn = DrawOneWithRoom(number);
      Add(block, drawn ? *drawn : EmptiestFor(block));
    }
  }
}

// Gives the member what others have above their shares, or (of those below) above the least.
void Balance::Raise(Number number, uint32_t goal, bool from_those_below) {
  Member& member = members_[number];
  for (uint32_t i = 0; i < blocks_ && member.load < goal; ++i) {
    Block& block = holders_[Walk(member, i)];
    if (Has(block, number)) continue;
    const uint32_t place = FullestOf(block);
    const Member& giver = members_[block.of[place]];
    if (giver.load <= (from_those_below ? giver.least() : Floor(giver.share))) continue;
    Remove(block, place);
    Add(block, number);
  }
}

void Balance::RaiseAll() {
  for (size_t i = 0; i < members_.size(); ++i) {
    const Member& member = members_[i];
    if (member.load >= member.least() && member.load > 0) continue;
    Raise(static_cast<Number>(i), Floor(member.share), false);
    Raise(static_cast<Number>(i), member.least(), true);
  }
}

void Balance::Relieve() {
  for (uint32_t number = 0; number < blocks_; ++number) {
    Block& block = holders_[number];
    for (uint32_t place = 0; place < block.size; ++place) {
      const Member& member = members_[block.of[place]];
      if (member.load <= member.most()) continue;
      const std::optional<Number> other = DrawOneWithRoom(number);
      if (!other) continue;
      Remove(block, place--);
      Add(block, *other);
    }
  }
}

// Of blocks that somebody joins, whoever has fewer primaries comes first: the first holder or the
// emptiest of the joining nodes. The order among holders, and among the joining, stays as it is.
void Balance::ChoosePrimaries() {
  for (const Block& block : holders_) {
    if (block.held == block.size) ++members_[block.of[0]].primaries;
  }
  for (Block& block : holders_) {
    if (block.held == block.size) continue;
    uint32_t first = block.held;
    for (uint32_t i = first + 1; block.known == 0 && i < block.size; ++i) {
      if (LeadsLess(members_[block.of[i]], members_[block.of[first]])) first = i;
    }
    if (block.held > 0 && !LeadsLess(members_[block.of[first]], members_[block.of[0]])) first = 0;
    std::rotate(block.of, block.of + first, block.of + first + 1);
    ++members_[block.of[0]].primaries;
  }
}

// Whether any block has another primary now.
bool Balance::EvenOutPrimaries() {
  bool changed = false;
  for (Block& block : holders_) {
    Member& leader = members_[block.of[0]];
    const uint64_t share = leader.share / per_block_;
    if (leader.primaries <= std::max(Ceil(share), Floor(share * 5 / 4))) continue;
    uint32_t first = 0;
    for (uint32_t i = 1; i < block.size; ++i) {
      if (LeadsLess(members_[block.of[i]], members_[block.of[first]])) first = i;
    }
    Member& next = members_[block.of[first]];
    if (next.primaries >= Ceil(next.share / per_block_)) continue;
    --leader.primaries;
    ++next.primaries;
    std::rotate(block.of, block.of + first, block.of + first + 1);
    changed = true;
  }
  return changed;
}

DesiredHolders Balance::Result() const {
  std::vector<NodeIndex> holders;
  holders.reserve(size_t{blocks_} * per_block_);
  for (const Block& block : holders_) {
    for (uint32_t i = 0; i < block.size; ++i) holders.push_back(eligible_[block.of[i]]);
  }
  return {per_block_, block_slots_, std::move(holders)};
}

}  // namespace

absl::StatusOr<DesiredHolders> BalanceHolders(const RoutingTable* previous,
                                              std::span<const NodeInfo> nodes, uint32_t replicas,
                                              uint32_t block_slots) {
  absl::StatusOr<std::vector<NodeIndex>> eligible = EligibleNodes(nodes, replicas);
  if (!eligible.ok()) return eligible.status();
  Balance balance(nodes, *std::move(eligible), replicas, block_slots);
  if (previous != nullptr) balance.TakeOver(*previous);
  balance.Fill();
  balance.RaiseAll();
  balance.Relieve();
  balance.ChoosePrimaries();
  // While something moves, an order that is chosen now is not the last one.
  for (int pass = 0; balance.Settled() && pass < kPasses; ++pass) {
    if (!balance.EvenOutPrimaries()) break;
  }
  return balance.Result();
}

}  // namespace latentd
