#include "client/session_keeper.h"

#include <catch2/catch.hpp>

#include "client/testing/fixture.h"
#include "routing/layout_proto.h"

namespace latentd::testing {
namespace {

using wire::Opcode;

TEST_CASE("once the layout is known, opening a session carries all of it") {
  ControlOptions options;
  CHECK_FALSE(MakeOpenRequest(options).has_layout());
  Layout layout;
  layout.model = "tiny";
  layout.layers = 2;
  options.expected_layout = HashLayout(layout);
  options.layout = layout;
  const v1::OpenRequest request = MakeOpenRequest(options);
  CHECK(request.layout_hash() == ToInt(HashLayout(layout)));
  CHECK(*FromProto(request.layout()) == layout);
}

// A table of one node, which is the life of it that `generation` says.
std::shared_ptr<const RoutingTable> TableOf(uint64_t epoch, const std::string& address,
                                            uint64_t generation) {
  RoutingTableParts parts = MakeTable(epoch, {{"node-a", address}}, {{0}})->ToParts();
  parts.nodes[0].generation = Generation{generation};
  return RoutingTable::Create(std::move(parts)).value();
}

TEST_CASE("slots are asked of the daemon that the table means, not of a second one of its id") {
  FakeDaemon second({.streams_tables = true});
  second.ForgetSessions();  // generation 2
  second.SetScript(
      [](const ParsedRequest&) { return FakeAnswer{.status = absl::UnavailableError("fenced")}; });
  FakeDaemon first;  // generation 1
  first.SetScript(AnswerAttendWith(3));
  first.SetTable(TableOf(2, first.address(), 1));
  Query query({kFirst});
  SECTION("known as soon as the client begins") {
    second.SetTable(TableOf(2, first.address(), 1));
    const auto client = ConnectTo(second);
    CHECK(client->Attend(query.args(), kLong).ok());
  }
  SECTION("known once a table says so") {
    second.SetTable(TableOf(1, second.address(), 2));
    const auto client = ConnectTo(second);
    second.SetTable(TableOf(2, first.address(), 1));
    REQUIRE(TurnUntil(*client, [&] { return client->table()->epoch() == Epoch{2}; }));
    CHECK(client->Attend(query.args(), kLong).ok());
  }
  CHECK(query.out_value() == 3);
  CHECK(first.requests(Opcode::kAttend) == 1);
}

}  // namespace
}  // namespace latentd::testing
