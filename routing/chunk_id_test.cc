#include "routing/chunk_id.h"

#include <set>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

namespace latentd {
namespace {

constexpr LayoutHash kLayout{0x0123456789abcdef};

TEST_CASE("an id is written as 32 hexadecimal digits and read back") {
  const ChunkId id{0x00ff0123456789ab, 0xcdef000000000001};
  CHECK(ToString(id) == "00ff0123456789abcdef000000000001");
  CHECK(ParseChunkId(ToString(id)).value() == id);
  CHECK(ParseChunkId("00FF0123456789ABCDEF000000000001").value() == id);
  CHECK(ParseChunkId(std::string(32, 'f')).value() == ChunkId{~uint64_t{0}, ~uint64_t{0}});
}

TEST_CASE("what is not 32 hexadecimal digits is refused and named") {
  for (const std::string text :
       {"", "0", "00ff0123456789abcdef00000000000", "00ff0123456789abcdef0000000000011",
        "0x0123456789abcdef00000000000001", "00ff0123456789abcdef00000000000g",
        " 0ff0123456789abcdef000000000001", "+0ff0123456789abcdef000000000001"}) {
    const auto id = ParseChunkId(text);
    REQUIRE_FALSE(id.ok());
    CHECK(id.status().code() == absl::StatusCode::kInvalidArgument);
    CHECK(std::string(id.status().message()).find("'" + text + "'") != std::string::npos);
  }
}

TEST_CASE("a very long text is not repeated in full by the refusal") {
  CHECK(ParseChunkId(std::string(100000, 'a')).status().message().size() < 200);
}

TEST_CASE("the slot is the top 16 bits") {
  CHECK(ToInt(ParseChunkId("beef0000000000000000000000000000")->slot()) == 0xbeef);
}

TEST_CASE("frontends that derive the same chunk meet at the same id") {
  const std::vector<uint32_t> tokens = {1, 2, 3, 128000};
  const ChunkId id = DeriveChunkId(kNoChunk, tokens, kLayout);
  CHECK(DeriveChunkId(kNoChunk, tokens, kLayout) == id);
  CHECK(id != kNoChunk);
}

TEST_CASE("another parent, token, order, length or layout gives another id") {
  const std::vector<std::vector<uint32_t>> token_lists = {
      {}, {0}, {0, 0}, {1, 2, 3}, {1, 3, 2}, {1, 2, 3, 0}, {1, 2, 0x80000003}};
  std::set<ChunkId> ids;
  size_t made = 0;
  for (const auto& tokens : token_lists) {
    for (const ChunkId parent : {kNoChunk, ChunkId{0, 1}, ChunkId{1, 0}}) {
      for (const LayoutHash layout : {kLayout, LayoutHash{1}}) {
        ids.insert(DeriveChunkId(parent, tokens, layout));
        ++made;
      }
    }
  }
  CHECK(ids.size() == made);
}

// Frontends of different versions and machines share chunks by these ids.
TEST_CASE("derived ids never change between builds") {
  const std::vector<uint32_t> tokens = {1, 2, 3, 128000};
  const ChunkId first = DeriveChunkId(kNoChunk, tokens, kLayout);
  const ChunkId second = DeriveChunkId(first, tokens, kLayout);
  CHECK(ToString(first) == "2dd355dcc3188ca2d492434aa721c312");
  CHECK(ToString(second) == "c9b31300b2b5668759bd7c1dfe047009");
}

TEST_CASE("derived ids spread over the slots") {
  std::set<Slot> slots;
  ChunkId id = kNoChunk;
  for (uint32_t i = 0; i < 4096; ++i) {
    id = DeriveChunkId(id, std::vector<uint32_t>{i}, kLayout);
    slots.insert(id.slot());
  }
  CHECK(slots.size() > 3900);  // 4096 draws from 65536: 3970 expected
}

TEST_CASE("a placed id is in its slot and keeps the entropy's low 112 bits") {
  const Entropy128 entropy{0x1234567812345678, 0x9abcdef09abcdef0};
  for (const uint16_t slot : {0x0000, 0x0001, 0x8000, 0xffff}) {
    const ChunkId id = PlaceChunkId(Slot{slot}, entropy);
    CHECK(ToInt(id.slot()) == slot);
    CHECK((id.hi & 0xffffffffffff) == 0x567812345678);
    CHECK(id.lo == entropy.lo);
  }
}

}  // namespace
}  // namespace latentd
