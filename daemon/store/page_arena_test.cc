#include "daemon/store/page_arena.h"

#include <catch2/catch.hpp>

#include <cstring>
#include <set>

#include "daemon/store/host_memory.h"
#include "daemon/store/page_table.h"

namespace latentd {
namespace {

TEST_CASE("an arena hands out every page once and then none") {
  auto arena = PageArena::Create(4096, 3, MakeHostMemory);
  REQUIRE(arena.ok());
  std::set<uint32_t> ids;
  for (int i = 0; i < 3; ++i) {
    const auto id = (*arena)->Allocate();
    REQUIRE(id.has_value());
    std::memset((*arena)->memory().base() + (*arena)->page_offset(*id), 1, 4096);
    ids.insert(*id);
  }
  CHECK(ids.size() == 3);
  CHECK((*arena)->pages_free() == 0);
  CHECK_FALSE((*arena)->Allocate().has_value());

  (*arena)->Free(1);
  CHECK((*arena)->pages_free() == 1);
  CHECK_FALSE((*arena)->IsAllocated(1));
  CHECK((*arena)->Allocate() == 1u);
}

// ThreadSanitizer's shadow leaves no room for it.
#ifndef __SANITIZE_THREAD__
TEST_CASE("a cache far larger than this machine's memory costs nothing until it is touched") {
  auto arena = PageArena::Create(uint64_t{4} << 20, uint64_t{1} << 19, MakeHostMemory);  // 2 TiB
  REQUIRE(arena.ok());
  const auto id = (*arena)->Allocate();
  REQUIRE(id.has_value());
  (*arena)->memory().base()[(*arena)->page_offset(*id)] = std::byte{1};
}
#endif

TEST_CASE("impossible arenas are refused") {
  CHECK(PageArena::Create(0, 1, MakeHostMemory).status().code() ==
        absl::StatusCode::kInvalidArgument);
  CHECK(PageArena::Create(1, 0, MakeHostMemory).status().code() ==
        absl::StatusCode::kInvalidArgument);
  CHECK(PageArena::Create(1, uint64_t{1} << 32, MakeHostMemory).status().code() ==
        absl::StatusCode::kInvalidArgument);
  CHECK(PageArena::Create(uint64_t{1} << 40, uint64_t{1} << 30, MakeHostMemory).status().code() ==
        absl::StatusCode::kResourceExhausted);
}

TEST_CASE("memory of the host keeps runs, gives them back and finds the first difference") {
  auto memory = MakeHostMemory(64);
  REQUIRE(memory.ok());
  const RecordRun runs[] = {{.memory_offset = 8, .host_offset = 0, .bytes = 3},
                            {.memory_offset = 20, .host_offset = 3, .bytes = 2}};
  std::byte written[5] = {std::byte{1}, std::byte{2}, std::byte{3}, std::byte{4}, std::byte{5}};
  REQUIRE((*memory)->Write(runs, written).ok());
  std::byte read[5] = {};
  REQUIRE((*memory)->Read(runs, read).ok());
  CHECK(std::memcmp(read, written, 5) == 0);
  CHECK(*(*memory)->FirstDifference(runs, written) == std::nullopt);
  written[4] = std::byte{9};
  CHECK(*(*memory)->FirstDifference(runs, written) == 4u);
}

TEST_CASE("a page table that grows leaves what was handed out readable") {
  PageTable table;
  table.Grow(1);
  table.Set(0, 7);
  const uint32_t* old = table.data();
  table.Grow(100);
  table.Set(99, 8);
  CHECK(old[0] == 7);
  CHECK(table[0] == 7);
  CHECK(table[50] == PageTable::kNoPage);
  CHECK(table[99] == 8);
  CHECK(table[100] == PageTable::kNoPage);
  table.DropRetired();
}

}  // namespace
}  // namespace latentd
