#include "tools/ctl_views.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "tools/text_table.h"

namespace latentd {
namespace {

using nlohmann::json;

constexpr double kSlots = 65536;

std::string Hex(uint64_t value) { return absl::StrFormat("%016x", value); }

std::string GenerationText(uint64_t generation) {
  return generation == 0 ? "unknown" : Hex(generation);
}

std::string Milliseconds(uint64_t ms) {
  // To the second once there are seconds: nobody reads "3h2m1.234s".
  const absl::Duration exact = absl::Milliseconds(static_cast<int64_t>(ms));
  return absl::FormatDuration(ms < 10'000 ? exact : absl::Trunc(exact, absl::Seconds(1)));
}

std::string LayoutText(const v1::Layout& layout) {
  return absl::StrCat(layout.model(), ", ", layout.layers(), " layers, ", layout.latent_width(),
                      "+", layout.rope_width(), " ", layout.record(), ", ", layout.page_tokens(),
                      "-token pages, hash ", Hex(layout.hash()));
}

json LayoutJson(const v1::Layout& layout) {
  return {{"model", layout.model()},
          {"layers", layout.layers()},
          {"latent_width", layout.latent_width()},
          {"rope_width", layout.rope_width()},
          {"record", layout.record()},
          {"page_tokens", layout.page_tokens()},
          {"format_version", layout.format_version()},
          {"hash", Hex(layout.hash())}};
}

json LaneJson(const v1::LaneStatus& lane) {
  return {{"index", lane.index()},
          {"device", lane.device()},
          {"backend", lane.backend()},
          {"transports", lane.transports()},
          {"cache_bytes", lane.cache_bytes()},
          {"pages_total", lane.pages_total()},
          {"pages_free", lane.pages_free()},
          {"chunks_open", lane.chunks_open()},
          {"chunks_sealed", lane.chunks_sealed()},
          {"chunks_pinned", lane.chunks_pinned()},
          {"requests_in_flight", lane.requests_in_flight()},
          {"bytes_in_flight", lane.bytes_in_flight()},
          {"attend_requests", lane.attend_requests()},
          {"attend_rows", lane.attend_rows()},
          {"evicted_chunks", lane.evicted_chunks()},
          {"errors", lane.errors()}};
}

json NodeJson(const v1::Node& node) {
  return {{"id", node.id()},
          {"control_address", node.control_address()},
          {"capacity_bytes", node.capacity_bytes()},
          {"generation", GenerationText(node.generation())},
          {"state", StateName(node.state())},
          {"version", node.version()},
          {"silent_ms", node.silent_ms()},
          {"trouble", node.trouble()}};
}

std::string LastSeenText(const v1::Node& node) {
  if (node.generation() == 0) return "never";
  return node.silent_ms() < 1000 ? "now" : absl::StrCat(Milliseconds(node.silent_ms()), " ago");
}

// Slots that a node is first among the holders of, those that it holds at all, and those that it is
// copying.
struct Held {
  uint64_t primary = 0;
  uint64_t all = 0;
  uint64_t joining = 0;
};

std::vector<Held> HeldBy(const v1::RoutingTable& table) {
  std::vector<Held> held(table.nodes_size());
  for (const v1::SlotRange& range : table.ranges()) {
    for (int i = 0; i < range.holders_size(); ++i) {
      if (range.holders(i) >= held.size()) continue;
      held[range.holders(i)].all += range.slots();
      if (i == 0) held[range.holders(i)].primary += range.slots();
    }
    for (const uint32_t joining : range.joining()) {
      if (joining < held.size()) held[joining].joining += range.slots();
    }
  }
  return held;
}

// "10924 (5462 as primary), copying 31"
std::string SlotsText(const Held& held) {
  return absl::StrCat(held.all, " (", held.primary, " as primary)",
                      held.joining == 0 ? "" : absl::StrCat(", copying ", held.joining));
}

std::string CopyText(const v1::ReplicationStatus& status) {
  return absl::StrCat(status.slots_copied(), " of ", status.slots_joining(), " slots, ",
                      status.copies_under_way(), " chunks under way, ", status.chunks_copied(),
                      " copied (", HumanBytes(static_cast<double>(status.bytes_copied())), ", now ",
                      HumanBytes(status.copy_bytes_per_second()), "/s), ", status.copy_failures(),
                      " failures",
                      status.copy_failures() == 0 || status.last_copy_failure().empty()
                          ? ""
                          : absl::StrCat(", last: ", status.last_copy_failure()));
}

// "2, of which no holder has a whole copy yet: ID, ID"
std::string DamagedText(const v1::ReplicationStatus& status) {
  return absl::StrCat(status.chunks_damaged(), ", of which no holder has given a whole copy yet: ",
                      absl::StrJoin(status.damaged_chunks(), ", "));
}

std::string ForwardText(const v1::ReplicationStatus& status) {
  return absl::StrCat(status.forwards_under_way(), " writes under way, the oldest for ",
                      Milliseconds(status.oldest_forward_ms()), ", ", status.forwards_failed(),
                      " failed");
}

std::string ClusterText(uint64_t epoch, const v1::ReplicationStatus& status) {
  if (epoch == 0) return "unknown: the node has no routing table yet";
  return absl::StrCat(status.cluster_degraded_slots(), " slots with too few holders, ",
                      status.cluster_moving_slots(), " moving");
}

std::string CoordinatorText(const v1::AuthorityStatus& status) {
  if (status.coordinator().empty()) return "none";
  return absl::StrCat(
      status.coordinator(), status.coordinates() ? " (this node)" : "",
      status.coordinator_since_unix_ms() == 0
          ? ""
          : absl::StrCat(", since ",
                         absl::FormatTime("%Y-%m-%dT%H:%M:%SZ",
                                          absl::FromUnixMillis(status.coordinator_since_unix_ms()),
                                          absl::UTCTimeZone())));
}

std::string LeaseText(const v1::AuthorityStatus& status) {
  return absl::StrCat(
      status.lease() == 0 ? "none" : absl::StrFormat("%x", status.lease()),
      status.registered() ? ", registered" : ", not registered",
      status.serves_for_ms() == 0
          ? ", does not answer queries"
          : absl::StrCat(", may answer for ", Milliseconds(status.serves_for_ms())));
}

json AuthorityJson(const v1::AuthorityStatus& status) {
  return {
      {"coordinator", status.coordinator()},
      {"coordinator_since_unix_ms", status.coordinator_since_unix_ms()},
      {"coordinates", status.coordinates()},
      {"registered", status.registered()},
      {"lease", absl::StrFormat("%x", status.lease())},
      {"serves_for_ms", status.serves_for_ms()},
      {"troubles", std::vector<std::string>(status.troubles().begin(), status.troubles().end())}};
}

json ReplicationJson(const v1::ReplicationStatus& status) {
  return {{"slots_primary", status.slots_primary()},
          {"slots_held", status.slots_held()},
          {"slots_joining", status.slots_joining()},
          {"slots_copied", status.slots_copied()},
          {"copies_under_way", status.copies_under_way()},
          {"chunks_copied", status.chunks_copied()},
          {"bytes_copied", status.bytes_copied()},
          {"copy_bytes_per_second", status.copy_bytes_per_second()},
          {"copy_failures", status.copy_failures()},
          {"last_copy_failure", status.last_copy_failure()},
          {"chunks_repaired", status.chunks_repaired()},
          {"chunks_damaged", status.chunks_damaged()},
          {"damaged_chunks", std::vector<std::string>(status.damaged_chunks().begin(),
                                                      status.damaged_chunks().end())},
          {"forwards_under_way", status.forwards_under_way()},
          {"oldest_forward_ms", status.oldest_forward_ms()},
          {"forwards_failed", status.forwards_failed()},
          {"cluster_degraded_slots", status.cluster_degraded_slots()},
          {"cluster_moving_slots", status.cluster_moving_slots()}};
}

std::string HoldersText(const v1::RoutingTable& table, const v1::SlotRange& range) {
  std::vector<std::string> names;
  for (const uint32_t holder : range.holders()) {
    names.push_back(holder < static_cast<uint32_t>(table.nodes_size())
                        ? table.nodes(static_cast<int>(holder)).id()
                        : absl::StrCat("#", holder));
  }
  return absl::StrJoin(names, " ");
}

}  // namespace

std::string StateName(v1::NodeState state) {
  switch (state) {
    case v1::NODE_STATE_ACTIVE:
      return "active";
    case v1::NODE_STATE_DRAINING:
      return "draining";
    case v1::NODE_STATE_DOWN:
      return "unreachable";
    default:
      return "unknown";
  }
}

View StatusView(const v1::StatusResponse& status) {
  TextTable node({"", ""});
  node.Add({"node", status.node_id()});
  node.Add({"state", StateName(status.state())});
  node.Add({"version", status.version()});
  node.Add({"up", Milliseconds(status.uptime_ms())});
  node.Add({"generation", GenerationText(status.generation())});
  node.Add({"layout", LayoutText(status.layout())});
  node.Add({"membership", absl::StrCat(status.membership(), ", epoch ", status.epoch())});
  if (status.has_authority()) {
    node.Add({"coordinator", CoordinatorText(status.authority())});
    node.Add({"lease", LeaseText(status.authority())});
    for (const std::string& trouble : status.authority().troubles()) node.Add({"trouble", trouble});
  }
  const v1::ReplicationStatus& replication = status.replication();
  node.Add({"slots", SlotsText({.primary = replication.slots_primary(),
                                .all = replication.slots_held(),
                                .joining = replication.slots_joining()})});
  node.Add({"copying", CopyText(replication)});
  if (replication.chunks_damaged() > 0) node.Add({"damaged chunks", DamagedText(replication)});
  node.Add({"forwarding", ForwardText(replication)});
  node.Add({"cluster", ClusterText(status.epoch(), replication)});
  node.Add({"sessions", absl::StrCat(status.sessions())});
  node.Add({"cuda", status.cuda()});
  node.Add({"metrics", status.metrics_address().empty() ? "off" : status.metrics_address()});

  TextTable lanes({"lane", "device", "backend", "transports", ">cache", ">used", ">open", ">sealed",
                   ">pinned", ">in flight", ">queries", ">rows", ">evicted", ">errors"});
  json lanes_json = json::array();
  for (const v1::LaneStatus& lane : status.lanes()) {
    const double total = static_cast<double>(lane.pages_total());
    const double used =
        total > 0 ? 100 * (total - static_cast<double>(lane.pages_free())) / total : 0;
    lanes.Add({absl::StrCat(lane.index()), lane.device(), lane.backend(),
               lane.transports().empty() ? "-" : lane.transports(),
               HumanBytes(static_cast<double>(lane.cache_bytes())),
               absl::StrCat(Fixed(used, 1), "%"), absl::StrCat(lane.chunks_open()),
               absl::StrCat(lane.chunks_sealed()), absl::StrCat(lane.chunks_pinned()),
               absl::StrCat(lane.requests_in_flight()), absl::StrCat(lane.attend_requests()),
               absl::StrCat(lane.attend_rows()), absl::StrCat(lane.evicted_chunks()),
               absl::StrCat(lane.errors())});
    lanes_json.push_back(LaneJson(lane));
  }
  View view;
  // The first line is that of the empty heads.
  const std::string facts = node.ToString();
  view.text = absl::StrCat(facts.substr(facts.find('\n') + 1), "\n", lanes.ToString());
  view.json = {{"node_id", status.node_id()},
               {"version", status.version()},
               {"generation", Hex(status.generation())},
               {"state", StateName(status.state())},
               {"uptime_ms", status.uptime_ms()},
               {"epoch", status.epoch()},
               {"layout", LayoutJson(status.layout())},
               {"membership", status.membership()},
               {"sessions", status.sessions()},
               {"cuda", status.cuda()},
               {"metrics_address", status.metrics_address()},
               {"replication", ReplicationJson(status.replication())},
               {"lanes", std::move(lanes_json)}};
  if (status.has_authority()) view.json["authority"] = AuthorityJson(status.authority());
  return view;
}

View NodesView(const v1::ListNodesResponse& nodes, const v1::RoutingTable& slots) {
  const std::vector<Held> held = HeldBy(slots);
  const auto held_by = [&](const std::string& id) {
    for (int i = 0; i < slots.nodes_size(); ++i) {
      if (slots.nodes(i).id() == id) return held[i];
    }
    return Held{};
  };
  TextTable table({"node", "address", "state", ">capacity", ">slots", ">joining", "generation",
                   "version", ">last seen", "trouble"});
  json list = json::array();
  for (const v1::Node& node : nodes.nodes()) {
    table.Add({node.id(), node.control_address(), StateName(node.state()),
               HumanBytes(static_cast<double>(node.capacity_bytes())),
               absl::StrCat(held_by(node.id()).all), absl::StrCat(held_by(node.id()).joining),
               GenerationText(node.generation()), node.version().empty() ? "-" : node.version(),
               LastSeenText(node), node.trouble().empty() ? "-" : node.trouble()});
    json entry = NodeJson(node);
    entry["slots"] = held_by(node.id()).all;
    entry["slots_joining"] = held_by(node.id()).joining;
    list.push_back(std::move(entry));
  }
  return {table.ToString(), {{"nodes", std::move(list)}}};
}

View TableView(const v1::RoutingTable& table, bool ranges) {
  const std::vector<Held> held = HeldBy(table);
  TextTable nodes({"node", "address", "state", ">primary slots", ">share", ">slots held"});
  json nodes_json = json::array();
  for (int i = 0; i < table.nodes_size(); ++i) {
    const v1::Node& node = table.nodes(i);
    const double share = 100 * static_cast<double>(held[i].primary) / kSlots;
    nodes.Add({node.id(), node.control_address(), StateName(node.state()),
               absl::StrCat(held[i].primary), absl::StrCat(Fixed(share, 2), "%"),
               absl::StrCat(held[i].all)});
    json entry = NodeJson(node);
    entry["primary_slots"] = held[i].primary;
    entry["slots"] = held[i].all;
    nodes_json.push_back(std::move(entry));
  }
  View view;
  view.text = absl::StrCat("epoch ", table.epoch(), ", ", table.nodes_size(), " nodes, ",
                           table.ranges_size(), " ranges of slots\n\n", nodes.ToString());
  view.json = {{"epoch", table.epoch()},
               {"nodes", std::move(nodes_json)},
               {"range_count", table.ranges_size()}};
  if (!ranges) return view;
  TextTable slots({">first slot", ">slots", "holders", "generation"});
  json ranges_json = json::array();
  for (const v1::SlotRange& range : table.ranges()) {
    slots.Add({absl::StrCat(range.first_slot()), absl::StrCat(range.slots()),
               HoldersText(table, range), Hex(range.generation())});
    ranges_json.push_back(
        {{"first_slot", range.first_slot()},
         {"slots", range.slots()},
         {"generation", Hex(range.generation())},
         {"holders", std::vector<uint32_t>(range.holders().begin(), range.holders().end())}});
  }
  absl::StrAppend(&view.text, "\n", slots.ToString());
  view.json["ranges"] = std::move(ranges_json);
  return view;
}

View ChunksView(const v1::ChunksResponse& chunks) {
  TextTable table({"chunk", ">lane", "state", ">tokens", ">pages", ">leases", ">idle", "checksum"});
  json list = json::array();
  for (const v1::Chunk& chunk : chunks.chunks()) {
    table.Add({chunk.id(), absl::StrCat(chunk.lane()), chunk.sealed() ? "sealed" : "open",
               absl::StrCat(chunk.tokens()), absl::StrCat(chunk.pages()),
               absl::StrCat(chunk.leases()), Milliseconds(chunk.idle_ms()),
               chunk.sealed() ? Hex(chunk.checksum()) : "-"});
    list.push_back({{"id", chunk.id()},
                    {"lane", chunk.lane()},
                    {"sealed", chunk.sealed()},
                    {"tokens", chunk.tokens()},
                    {"pages", chunk.pages()},
                    {"leases", chunk.leases()},
                    {"idle_ms", chunk.idle_ms()},
                    {"checksum", Hex(chunk.checksum())}});
  }
  View view;
  view.json = {{"chunks", std::move(list)}, {"more", chunks.more()}};
  if (chunks.has_total()) view.json["total"] = chunks.total();
  view.text =
      absl::StrCat(table.ToString(), chunks.chunks_size(),
                   chunks.has_total() ? absl::StrCat(" of ", chunks.total()) : "", " chunks",
                   chunks.more() && !chunks.has_total() ? ", and there are more" : "", "\n");
  return view;
}

}  // namespace latentd
