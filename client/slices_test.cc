#include "client/slices.h"

#include <vector>

#include "catch2/catch.hpp"

namespace latentd {
namespace {

constexpr uint64_t kRecord = 10;
constexpr ChunkRange kRange = {
    .chunk = {1, 2}, .first_layer = 3, .layers = 5, .first_token = 7, .tokens = 6};

TEST_CASE("a range that fits is one slice") {
  const auto slices = SliceRange(kRange, kRecord, 300);
  REQUIRE(slices.size() == 1);
  CHECK(slices[0].range.layers == 5);
  CHECK(slices[0].range.first_token == 7);
  CHECK(slices[0].bytes == 300);
}

TEST_CASE("slices tile the range whatever the bound") {
  for (uint64_t bound = 1; bound <= 310; bound += 3) {
    INFO("bound " << bound);
    std::vector<int> seen(5 * 6, 0);
    uint64_t offset = 0;
    for (const Slice& slice : SliceRange(kRange, kRecord, bound)) {
      CHECK((slice.bytes <= bound || slice.bytes == kRecord));
      CHECK(slice.offset_bytes == offset);
      offset += slice.bytes;
      CHECK(slice.range.chunk == kRange.chunk);
      CHECK(slice.bytes == slice.range.layers * slice.range.tokens * kRecord);
      for (uint32_t l = 0; l < slice.range.layers; ++l) {
        for (uint32_t t = 0; t < slice.range.tokens; ++t) {
          ++seen.at((slice.range.first_layer - 3 + l) * 6 + slice.range.first_token - 7 + t);
        }
      }
    }
    CHECK(offset == 300);
    for (const int count : seen) CHECK(count == 1);
  }
}

}  // namespace
}  // namespace latentd
