#include "routing/table_snapshot.h"

#include <map>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "proto/latentd/v1/membership.pb.h"
#include "routing/table_proto.h"

namespace latentd {
namespace {

constexpr uint32_t kCountBase = 32;
static_assert(kMaxReplicas < kCountBase);

absl::Status Malformed(std::string_view what) {
  return absl::InvalidArgumentError(
      absl::StrCat("stored table: ", absl::string_view(what.data(), what.size())));
}

}  // namespace

std::string PackTable(const RoutingTable& table) {
  const RoutingTableParts parts = table.ToParts();
  v1::TableSnapshot packed;
  packed.set_epoch(ToInt(parts.epoch));
  for (const NodeInfo& node : parts.nodes) *packed.add_nodes() = ToProto(node);
  std::map<std::pair<uint64_t, uint64_t>, uint32_t> eras;
  for (const SlotRange& range : parts.ranges) {
    const auto [era, fresh] =
        eras.try_emplace({ToInt(range.generation), ToInt(range.placed)}, eras.size());
    if (fresh) {
      packed.add_era_generation(ToInt(range.generation));
      packed.add_era_placed(ToInt(range.placed));
    }
    packed.add_run_slots(range.slots);
    packed.add_run_era(era->second);
    packed.add_run_counts(
        static_cast<uint32_t>(range.holders.size() + kCountBase * range.joining.size()));
    for (const NodeIndex node : range.holders) packed.add_run_members(node);
    for (const NodeIndex node : range.joining) packed.add_run_members(node);
  }
  return packed.SerializeAsString();
}

absl::StatusOr<std::shared_ptr<const RoutingTable>> UnpackTable(std::string_view packed) {
  v1::TableSnapshot from;
  if (!from.ParseFromArray(packed.data(), static_cast<int>(packed.size()))) {
    return Malformed("not a TableSnapshot");
  }
  RoutingTableParts parts{Epoch{from.epoch()}, {}, {}};
  for (const v1::Node& message : from.nodes()) {
    absl::StatusOr<NodeInfo> node = FromProto(message);
    if (!node.ok()) return node.status();
    parts.nodes.push_back(*std::move(node));
  }
  const int runs = from.run_slots_size();
  if (from.run_era_size() != runs || from.run_counts_size() != runs ||
      from.era_generation_size() != from.era_placed_size()) {
    return Malformed("lists of different lengths");
  }
  uint32_t slot = 0;
  int member = 0;
  for (int run = 0; run < runs; ++run) {
    const uint32_t era = from.run_era(run);
    const uint32_t slots = from.run_slots(run);
    const uint32_t holders = from.run_counts(run) % kCountBase;
    const uint32_t joining = from.run_counts(run) / kCountBase;
    if (era >= static_cast<uint32_t>(from.era_placed_size())) return Malformed("unknown era");
    if (slots > kSlotCount - slot) return Malformed("too many slots");
    if (joining >= kCountBase ||
        holders + joining > static_cast<uint32_t>(from.run_members_size() - member)) {
      return Malformed("too few members");
    }
    SlotRange range{.first_slot = slot,
                    .slots = slots,
                    .generation = Generation{from.era_generation(static_cast<int>(era))},
                    .holders = {},
                    .joining = {},
                    .placed = Epoch{from.era_placed(static_cast<int>(era))}};
    for (uint32_t i = 0; i < holders + joining; ++i) {
      const uint32_t node = from.run_members(member++);
      if (node >= parts.nodes.size()) return Malformed("unknown node");
      (i < holders ? range.holders : range.joining).push_back(static_cast<NodeIndex>(node));
    }
    slot += slots;
    parts.ranges.push_back(std::move(range));
  }
  if (member != from.run_members_size()) return Malformed("too many members");
  return RoutingTable::Create(std::move(parts));
}

}  // namespace latentd
