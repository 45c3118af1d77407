#include "client/table_choice.h"

#include <memory>

#include "catch2/catch.hpp"

namespace latentd {
namespace {

std::shared_ptr<const RoutingTable> Table(uint64_t epoch, NodeIndex holder) {
  return RoutingTable::Create({.epoch = Epoch{epoch},
                               .nodes = {{.id = "a", .control_address = "a:1"},
                                         {.id = "b", .control_address = "b:1"}},
                               .ranges = {{0, kSlotCount, Generation{1}, {holder}}}})
      .value();
}

constexpr TableSource kSources[] = {TableSource::kNewSession, TableSource::kRefusal,
                                    TableSource::kAnybody};

TEST_CASE("the first table is taken, and any that is newer, from anybody") {
  for (const TableSource source : kSources) {
    CHECK(ChooseTable(nullptr, *Table(1, 0), source).take);
    const TableChoice newer = ChooseTable(Table(1, 0).get(), *Table(2, 1), source);
    CHECK(newer.take);
    CHECK_FALSE(newer.conflict);
  }
}

TEST_CASE("a table that is older or says the same is not taken") {
  for (const TableSource source : kSources) {
    for (const auto& offered : {Table(1, 1), Table(2, 0)}) {
      const TableChoice choice = ChooseTable(Table(2, 0).get(), *offered, source);
      CHECK_FALSE(choice.take);
      CHECK_FALSE(choice.conflict);
    }
  }
}

TEST_CASE("another table of the same epoch is a conflict, and taken from who is right about it") {
  for (const TableSource source : kSources) {
    const TableChoice choice = ChooseTable(Table(2, 0).get(), *Table(2, 1), source);
    CHECK(choice.conflict);
    CHECK(choice.take == (source != TableSource::kAnybody));
  }
}

}  // namespace
}  // namespace latentd
