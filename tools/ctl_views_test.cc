#include "tools/ctl_views.h"

#include "catch2/catch.hpp"

namespace latentd {
namespace {

using Catch::Matchers::Contains;

v1::RoutingTable TwoNodes() {
  v1::RoutingTable table;
  table.set_epoch(7);
  for (const char* id : {"node-a", "node-b"}) {
    v1::Node& node = *table.add_nodes();
    node.set_id(id);
    node.set_control_address(std::string(id) + ":7400");
    node.set_state(v1::NODE_STATE_ACTIVE);
  }
  v1::SlotRange& first = *table.add_ranges();
  first.set_slots(16384);
  first.add_holders(0);
  first.add_holders(1);
  v1::SlotRange& second = *table.add_ranges();
  second.set_first_slot(16384);
  second.set_slots(49152);
  second.add_holders(1);
  return table;
}

TEST_CASE("the table shows each node's share") {
  const View view = TableView(TwoNodes(), false);
  CHECK_THAT(view.text, Contains("epoch 7") && Contains("25.00%") && Contains("75.00%"));
  CHECK(view.json["nodes"][0]["primary_slots"] == 16384);
  CHECK(view.json["nodes"][1]["slots"] == 65536);
  CHECK_FALSE(view.json.contains("ranges"));
}

TEST_CASE("ranges are shown when asked for") {
  const View view = TableView(TwoNodes(), true);
  CHECK_THAT(view.text, Contains("node-a node-b"));
  CHECK(view.json["ranges"].size() == 2);
}

TEST_CASE("a holder that the table does not name breaks nothing") {
  v1::RoutingTable table = TwoNodes();
  table.mutable_ranges(0)->add_holders(9);
  CHECK_THAT(TableView(table, true).text, Contains("#9"));
}

TEST_CASE("the status names the node, its layout and its lanes") {
  v1::StatusResponse status;
  status.set_node_id("node-a");
  status.set_state(v1::NODE_STATE_DRAINING);
  status.set_uptime_ms(3'723'456);
  status.mutable_layout()->set_model("deepseek-v3");
  v1::LaneStatus& lane = *status.add_lanes();
  lane.set_backend("cpu (AVX3, 2 threads)");
  lane.set_pages_total(200);
  lane.set_pages_free(50);
  status.mutable_replication()->set_slots_held(12345);
  status.mutable_replication()->set_copy_failures(3);
  status.mutable_replication()->set_last_copy_failure("node b: gone");
  CHECK_THAT(StatusView(status).text, !Contains("damaged"));
  status.mutable_replication()->set_chunks_damaged(2);
  status.mutable_replication()->add_damaged_chunks("0001beef");
  const View view = StatusView(status);
  CHECK_THAT(view.text,
             Contains("damaged chunks") && Contains("2, of which") && Contains("0001beef"));
  CHECK(view.json["replication"]["damaged_chunks"][0] == "0001beef");
  CHECK_THAT(view.text, Contains("node-a") && Contains("draining") && Contains("1h2m3s") &&
                            Contains("deepseek-v3") && Contains("75.0%") &&
                            Contains("cpu (AVX3, 2 threads)"));
  CHECK(view.json["lanes"][0]["pages_free"] == 50);
  CHECK(view.json["state"] == "draining");
  CHECK_THAT(view.text, Contains("12345") && Contains("node b: gone"));
  CHECK(view.json["replication"]["slots_held"] == 12345);
}

TEST_CASE("the status tells how the node stands with etcd, if there is one") {
  v1::StatusResponse status;
  CHECK_THAT(StatusView(status).text, !Contains("coordinator") && !Contains("lease"));
  CHECK_FALSE(StatusView(status).json.contains("authority"));
  v1::AuthorityStatus& authority = *status.mutable_authority();
  CHECK_THAT(StatusView(status).text, Contains("none, not registered, does not answer queries"));
  authority.set_coordinator("node-b");
  authority.set_coordinator_since_unix_ms(1'700'000'000'000);
  authority.set_registered(true);
  authority.set_lease(0xabc);
  authority.set_serves_for_ms(2345);
  authority.add_troubles("7 slots have fewer than 2 copies: 1 nodes are there");
  authority.add_troubles("node 'c' holds another layout");
  const View view = StatusView(status);
  CHECK_THAT(view.text, Contains("node-b, since 2023-11-14T22:13:20Z") &&
                            Contains("abc, registered, may answer for 2.345s") &&
                            Contains("7 slots have fewer") && Contains("node 'c' holds"));
  CHECK(view.json["authority"]["coordinator"] == "node-b");
  CHECK(view.json["authority"]["serves_for_ms"] == 2345);
  CHECK(view.json["authority"]["troubles"].size() == 2);
}

TEST_CASE("nodes are shown with the slots that they hold and those that they copy") {
  v1::ListNodesResponse nodes;
  nodes.add_nodes()->set_id("node-z");
  v1::RoutingTable table;
  table.add_nodes()->set_id("node-y");
  table.add_nodes()->set_id("node-z");
  v1::SlotRange& range = *table.add_ranges();
  range.set_slots(65'000);
  range.add_holders(0);
  range.add_joining(1);
  v1::SlotRange& other = *table.add_ranges();
  other.set_slots(536);
  other.add_holders(1);
  const View view = NodesView(nodes, table);
  CHECK_THAT(view.text, Contains("65000") && Contains("536"));
  CHECK(view.json["nodes"][0]["slots"] == 536);
  CHECK(view.json["nodes"][0]["slots_joining"] == 65'000);
}

TEST_CASE("nodes that nobody has heard of are shown as such") {
  v1::ListNodesResponse nodes;
  nodes.add_nodes()->set_id("node-z");
  const View view = NodesView(nodes, {});
  CHECK_THAT(view.text, Contains("node-z") && Contains("unknown") && Contains("never"));
  CHECK(view.json["nodes"][0]["state"] == "unknown");
}

TEST_CASE("a node that does not answer is shown with what was known of it, and why") {
  v1::ListNodesResponse nodes;
  v1::Node& node = *nodes.add_nodes();
  node.set_id("node-z");
  node.set_state(v1::NODE_STATE_DOWN);
  node.set_generation(0xabc);
  node.set_version("1.2.3");
  node.set_silent_ms(65'000);
  node.set_trouble("Connection refused");
  const View view = NodesView(nodes, {});
  CHECK_THAT(view.text, Contains("unreachable") && Contains("0000000000000abc") &&
                            Contains("1.2.3") && Contains("1m5s ago") &&
                            Contains("Connection refused"));
  CHECK(view.json["nodes"][0]["silent_ms"] == 65'000);
  CHECK(view.json["nodes"][0]["trouble"] == "Connection refused");
}

TEST_CASE("chunks are listed with how many there are") {
  v1::ChunksResponse chunks;
  v1::Chunk& chunk = *chunks.add_chunks();
  chunk.set_id("0123456789abcdef0123456789abcdef");
  chunk.set_sealed(true);
  chunk.set_checksum(0xabc);
  chunks.set_total(5);
  const View view = ChunksView(chunks);
  CHECK_THAT(view.text, Contains("0123456789abcdef0123456789abcdef") && Contains("sealed") &&
                            Contains("1 of 5"));
  CHECK(view.json["total"] == 5);
  // Of those that start with some digits nobody knows the number.
  chunks.clear_total();
  chunks.set_more(true);
  CHECK_THAT(ChunksView(chunks).text, Contains("1 chunks, and there are more"));
  CHECK(ChunksView(chunks).json["more"] == true);
}

}  // namespace
}  // namespace latentd
