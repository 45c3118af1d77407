// Tables and layouts through the control plane's messages and back.
#include <catch2/catch.hpp>

#include "routing/assignment.h"
#include "routing/layout_proto.h"
#include "routing/table_proto.h"

namespace latentd {
namespace {

std::shared_ptr<const RoutingTable> ThreeNodes() {
  std::vector<NodeInfo> nodes;
  for (const char* id : {"node-a", "node-b", "node-c"}) {
    nodes.push_back({.id = id,
                     .control_address = std::string(id) + ":7400",
                     .generation = Generation{nodes.size() * 77},
                     .capacity_bytes = uint64_t{1} << 30});
  }
  nodes[2].state = NodeState::kDraining;
  auto table = AssignSlots(Epoch{9}, nodes, 2);
  REQUIRE(table.ok());
  return *table;
}

Layout TestLayout() {
  Layout layout;
  layout.model = "deepseek-v3";
  layout.layers = 61;
  layout.record_format = RecordFormat::kFp8;
  layout.rope = {.theta = 1e4,
                 .yarn_factor = 40,
                 .original_context = 4096,
                 .mscale = 0.5,
                 .mscale_all_dim = 1,
                 .yarn_beta_fast = 31,
                 .yarn_beta_slow = 2,
                 .interleaved = false};
  return layout;
}

TEST_CASE("a routing table survives the way through its message") {
  const auto table = ThreeNodes();
  const auto back = FromProto(ToProto(*table));
  REQUIRE(back.ok());
  CHECK((*back)->ToParts() == table->ToParts());
}

TEST_CASE("a table whose holder does not fit an index is refused, not wrapped around") {
  v1::RoutingTable message = ToProto(*ThreeNodes());
  message.mutable_ranges(0)->set_holders(0, 65536);  // 0 in 16 bits: a node that exists
  const auto table = FromProto(message);
  CHECK(table.status().code() == absl::StatusCode::kInvalidArgument);
  CHECK(std::string(table.status().message()).find("65536") != std::string::npos);
}

TEST_CASE("a table with an unknown node state is refused") {
  v1::RoutingTable message = ToProto(*ThreeNodes());
  message.mutable_nodes(1)->set_state(static_cast<v1::NodeState>(99));
  const auto table = FromProto(message);
  CHECK(table.status().code() == absl::StatusCode::kInvalidArgument);
  CHECK(std::string(table.status().message()).find("node-b") != std::string::npos);
}

TEST_CASE("an empty table message is refused") {
  CHECK(FromProto(v1::RoutingTable{}).status().code() == absl::StatusCode::kInvalidArgument);
}

TEST_CASE("a layout survives the way through its message") {
  const Layout layout = TestLayout();
  const auto back = FromProto(ToProto(layout));
  REQUIRE(back.ok());
  CHECK(*back == layout);
}

TEST_CASE("a layout that does not give its own hash is refused") {
  v1::Layout message = ToProto(TestLayout());
  message.set_layers(62);
  CHECK(FromProto(message).status().code() == absl::StatusCode::kInvalidArgument);
}

TEST_CASE("a layout of an unknown record format is refused by name") {
  v1::Layout message = ToProto(TestLayout());
  message.set_record("fp4");
  const auto layout = FromProto(message);
  CHECK(layout.status().code() == absl::StatusCode::kInvalidArgument);
  CHECK(std::string(layout.status().message()).find("fp4") != std::string::npos);
}

}  // namespace
}  // namespace latentd
