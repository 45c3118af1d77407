// `RoutingTable` says who holds each slot, as of one epoch. It is immutable: whoever keeps the
// table publishes a new one and readers take a snapshot (`std::shared_ptr<const RoutingTable>`). It
// takes 128 KiB and 16 bytes or more for each distinct set of holders; a lookup is two array reads.
//
// Any thread. Spans and references stay valid as long as the table.
#ifndef LATENTD_ROUTING_ROUTING_TABLE_H_
#define LATENTD_ROUTING_ROUTING_TABLE_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "routing/ids.h"

namespace latentd {

enum class NodeState : uint8_t {
  kActive = 1,
  kDraining = 2,  // answers, but is given no slots while another node can take them
  kDown = 3,      // known, not answering: is given no slots
};

std::string_view NodeStateName(NodeState state);

struct NodeInfo {
  NodeId id;
  std::string control_address;  // "host:port" of its gRPC server
  Generation generation{};      // of its memory; 0 while nobody has heard from it
  uint64_t capacity_bytes = 0;  // its weight: slots are shared out in proportion
  NodeState state = NodeState::kActive;

  friend bool operator==(const NodeInfo&, const NodeInfo&) = default;
};

// Index into RoutingTable::nodes(). Means nothing in another table: keep the NodeId across tables.
using NodeIndex = uint16_t;

inline constexpr uint32_t kMaxNodes = 16384;
inline constexpr uint32_t kMaxReplicas = 16;

// Slots [first_slot, first_slot + slots) that have the same holders, primary first, the same nodes
// on the way to become holders, and the same generation.
struct SlotRange {
  uint32_t first_slot = 0;
  uint32_t slots = 0;
  Generation generation{};
  std::vector<NodeIndex> holders;
  std::vector<NodeIndex> joining{};
  Epoch placed{};  // since when all of that has been so

  friend bool operator==(const SlotRange&, const SlotRange&) = default;
};

// A table as plain values: what a message carries and what RoutingTable::Create checks.
struct RoutingTableParts {
  Epoch epoch{};
  std::vector<NodeInfo> nodes;
  std::vector<SlotRange> ranges;  // in order, without gaps or overlap, covering every slot

  friend bool operator==(const RoutingTableParts&, const RoutingTableParts&) = default;
};

class RoutingTable {
 public:
  // INVALID_ARGUMENT naming the first fault: epoch 0; no node, too many nodes, an empty or repeated
  // id or address; a gap, an overlap or a slot out of range; a slot without holder, with too many,
  // an unknown one or the same one twice (holding or joining); a slot placed after `epoch`.
  static absl::StatusOr<std::shared_ptr<const RoutingTable>> Create(RoutingTableParts parts);

  RoutingTable(const RoutingTable&) = delete;
  RoutingTable& operator=(const RoutingTable&) = delete;

  Epoch epoch() const { return epoch_; }
  std::span<const NodeInfo> nodes() const { return nodes_; }
  // REQUIRES: index < nodes().size().
  const NodeInfo& node(NodeIndex index) const { return nodes_[index]; }
  std::optional<NodeIndex> FindNode(std::string_view id) const;

  // Those that have every chunk of the slot and may answer for them. Primary first; never empty.
  std::span<const NodeIndex> HoldersOf(Slot slot) const {
    const HolderSet& set = SetOf(slot);
    return {holders_.data() + set.first_holder, set.holders};
  }
  // Those that are given what is published and fetch what was there before, until they hold the
  // slot too. They answer nobody for it. Mostly empty.
  std::span<const NodeIndex> JoiningOf(Slot slot) const {
    const HolderSet& set = SetOf(slot);
    return {holders_.data() + set.first_holder + set.holders, set.joining};
  }
  NodeIndex PrimaryOf(Slot slot) const { return HoldersOf(slot).front(); }
  Generation GenerationOf(Slot slot) const { return SetOf(slot).generation; }
  // The epoch from which on the slot has had these holders and joining nodes, with the memory that
  // they have now. Whoever knows a table of that epoch or a later one knows where the slot is.
  Epoch PlacedOf(Slot slot) const { return SetOf(slot).placed; }
  bool Holds(NodeIndex node, Slot slot) const;
  bool Joins(NodeIndex node, Slot slot) const;

  // Slots whose primary is `node`, ascending: to place a chunk on a chosen node. May be empty.
  std::vector<Slot> SlotsOf(NodeIndex node) const;

  // The table as values, with as few ranges as can be. Create(ToParts()) gives an equal table.
  RoutingTableParts ToParts() const;

 private:
  // What slots with equal holders, joining nodes and generation share.
  struct HolderSet {
    Generation generation{};
    Epoch placed{};
    uint32_t first_holder = 0;  // index into holders_; the joining ones follow the holders
    uint16_t holders = 0;
    uint16_t joining = 0;
  };

  RoutingTable() = default;
  const HolderSet& SetOf(Slot slot) const { return sets_[set_of_slot_[ToInt(slot)]]; }

  Epoch epoch_{};
  std::vector<NodeInfo> nodes_;
  std::vector<NodeIndex> holders_;
  std::vector<HolderSet> sets_;        // at most one for each slot, so that 16 bits name it
  std::vector<uint16_t> set_of_slot_;  // [kSlotCount], index into sets_
};

// Whether both name the same nodes at the same addresses and give every slot to the same holders.
// Epochs do not matter, nor what a node of a static list knows only of itself: generation,
// capacity, state.
bool SamePlacement(const RoutingTable& a, const RoutingTable& b);

}  // namespace latentd

#endif  // LATENTD_ROUTING_ROUTING_TABLE_H_
