#include "client/page_cache.h"

#include <catch2/catch.hpp>
#include <deque>
#include <map>
#include <random>
#include <set>

namespace latentd {
namespace {

constexpr uint32_t kLayers = 3;
constexpr uint64_t kPageBytes = 1000;

ChunkId Id(uint64_t lo) { return {.hi = 7, .lo = lo}; }

absl::StatusOr<PageCache::Use> ReserveOne(PageCache& cache, const CacheKey& key, uint32_t tokens,
                                          std::vector<TokenRun> runs) {
  const CacheWant want{key, tokens, runs};
  absl::StatusOr<std::vector<PageCache::Use>> uses = cache.Reserve({&want, 1});
  if (!uses.ok()) return uses.status();
  return std::move(uses->front());
}

// Everything that is missing arrives.
void Fill(PageCache::Use& use, std::vector<TokenRun> runs) {
  for (const ChunkRange& range : use.Missing(0, kLayers, runs)) {
    for (uint32_t layer = range.first_layer; layer < range.first_layer + range.layers; ++layer) {
      for (uint32_t token = range.first_token; token < range.first_token + range.tokens; ++token)
        use.MarkArrived(layer, token / 64, uint64_t{1} << token % 64);
    }
  }
}

TEST_CASE("a chunk takes whole pages, which its end gives back") {
  PageCache cache(kLayers, kPageBytes, 5 * kPageBytes + 999);
  CHECK(cache.capacity_bytes() == 5 * kPageBytes);
  {
    auto use = ReserveOne(cache, {Id(1)}, 130, {{0, 130}});
    REQUIRE(use.ok());
    CHECK(cache.bytes_in_use() == 3 * kPageBytes);
    CHECK(cache.evictable_bytes() == 0);
    CHECK_FALSE(use->Covers(0, 1));
    Fill(*use, {{0, 130}});
    CHECK(use->Covers(kLayers - 1, 130));
    CHECK_FALSE(use->Covers(0, 131));
  }
  CHECK(cache.bytes_in_use() == 3 * kPageBytes);
  CHECK(cache.evictable_bytes() == 3 * kPageBytes);
  cache.Drop(Id(1));
  CHECK(cache.bytes_in_use() == 0);
  CHECK(cache.peak_bytes() == 3 * kPageBytes);
  CHECK(cache.entries() == 0);
}

TEST_CASE("what did not arrive gives its pages back, what did stays") {
  PageCache cache(kLayers, kPageBytes, 4 * kPageBytes);
  {
    auto use = ReserveOne(cache, {Id(1)}, 256, {{0, 256}});
    REQUIRE(use.ok());
    use->MarkArrived(1, 2, 1);
  }
  CHECK(cache.bytes_in_use() == kPageBytes);
  {
    auto use = ReserveOne(cache, {Id(2)}, 64, {{0, 64}});
    REQUIRE(use.ok());
  }
  CHECK(cache.entries() == 1);
  CHECK(cache.Find({Id(1)}).Arrived(1, 2) == 1);
}

TEST_CASE("missing records are runs within pages, over the layers that lack the same") {
  PageCache cache(kLayers, kPageBytes, 4 * kPageBytes);
  auto use = ReserveOne(cache, {Id(1)}, 200, {{10, 3}, {62, 4}});
  REQUIRE(use.ok());
  CHECK(cache.bytes_in_use() == 2 * kPageBytes);
  use->MarkArrived(1, 0, uint64_t{1} << 11);
  const std::vector<TokenRun> runs = {{62, 4}, {10, 3}};
  const auto missing = use->Missing(0, kLayers, runs);
  const std::vector<std::array<uint32_t, 4>> expected = {
      {0, 1, 10, 3}, {0, 1, 62, 2}, {1, 1, 10, 1}, {1, 1, 12, 1},
      {1, 1, 62, 2}, {2, 1, 10, 3}, {2, 1, 62, 2}, {0, 3, 64, 2}};
  std::vector<std::array<uint32_t, 4>> got;
  for (const ChunkRange& r : missing)
    got.push_back({r.first_layer, r.layers, r.first_token, r.tokens});
  CHECK(got == expected);
}

TEST_CASE("the least recently used chunk that nobody uses goes first") {
  PageCache cache(kLayers, kPageBytes, 3 * kPageBytes);
  for (uint64_t i = 1; i <= 3; ++i) {
    auto use = ReserveOne(cache, {Id(i)}, 64, {{0, 64}});
    REQUIRE(use.ok());
    Fill(*use, {{0, 64}});
  }
  cache.Find({Id(1)});
  const PageCache::Use held = cache.Find({Id(2)});
  REQUIRE(ReserveOne(cache, {Id(4)}, 64, {{0, 64}}).ok());
  CHECK(cache.evictions() == 1);
  CHECK_FALSE(cache.Find({Id(3)}));
  CHECK(cache.Find({Id(1)}));
  CHECK(cache.Find({Id(2)}));
}

TEST_CASE("without room nothing is evicted, and the error says what there is") {
  PageCache cache(kLayers, kPageBytes, 4 * kPageBytes);
  auto held = ReserveOne(cache, {Id(1)}, 64, {{0, 64}});
  REQUIRE(held.ok());
  Fill(*held, {{0, 64}});
  {
    auto use = ReserveOne(cache, {Id(2)}, 64, {{0, 64}});
    REQUIRE(use.ok());
    Fill(*use, {{0, 64}});
  }
  const auto refused = ReserveOne(cache, {Id(3)}, 64 * 4, {{0, 64 * 4}});
  CHECK(absl::IsResourceExhausted(refused.status()));
  CHECK(refused.status().message() ==
        "cache: needs 4000 bytes more, and of its 4000 bytes 3000 are free or unused");
  CHECK(cache.Find({Id(2)}));
  CHECK(cache.entries() == 2);
  CHECK(cache.evictions() == 0);
}

TEST_CASE("a chunk at two shifts is two, and a chunk of another length is another one") {
  PageCache cache(kLayers, kPageBytes, 4 * kPageBytes);
  auto one = ReserveOne(cache, {Id(1), 0}, 64, {{0, 64}});
  auto other = ReserveOne(cache, {Id(1), 5}, 64, {{0, 64}});
  REQUIRE(one.ok());
  REQUIRE(other.ok());
  Fill(*one, {{0, 64}});
  CHECK_FALSE(other->Covers(0, 1));
  CHECK(one->page_ids()[0] != other->page_ids()[0]);
  CHECK(absl::IsFailedPrecondition(ReserveOne(cache, {Id(1), 0}, 70, {{0, 64}}).status()));
  *one = PageCache::Use();
  const auto anew = ReserveOne(cache, {Id(1), 0}, 70, {{0, 64}});
  REQUIRE(anew.ok());
  CHECK_FALSE(anew->Covers(0, 1));
  CHECK(cache.bytes_in_use() == 2 * kPageBytes);
}

// What the cache must agree with after anything.
struct Held {
  PageCache::Use use;
  std::vector<TokenRun> runs;
};

TEST_CASE("whatever is reserved, filled, dropped and held, every page is somebody's or free") {
  const auto seed = GENERATE(take(20, random(1, 1 << 30)));
  CAPTURE(seed);
  std::mt19937_64 random(static_cast<uint64_t>(seed));
  constexpr uint64_t kPages = 24;
  PageCache cache(kLayers, kPageBytes, kPages * kPageBytes);
  std::deque<Held> held;
  uint64_t peak = 0;
  for (int step = 0; step < 400; ++step) {
    switch (random() % 4) {
      case 0:
      case 1: {
        std::vector<CacheWant> wants;
        std::vector<std::vector<TokenRun>> runs(1 + random() % 3);
        for (auto& some : runs) {
          const uint64_t chunk = 1 + random() % 8;
          const auto tokens = static_cast<uint32_t>(40 * chunk);
          for (uint64_t i = 0; i <= random() % 3; ++i) {
            const auto first = static_cast<uint32_t>(random() % tokens);
            some.push_back({first, static_cast<uint32_t>(1 + random() % (tokens - first))});
          }
          wants.push_back({{Id(chunk), static_cast<int32_t>(random() % 2)},
                           tokens,
                           {some.data(), some.size()}});
        }
        auto uses = cache.Reserve(wants);
        if (!uses.ok()) {
          REQUIRE(absl::IsResourceExhausted(uses.status()));
          break;
        }
        for (size_t i = 0; i < uses->size(); ++i) {
          if (random() % 2 == 0) Fill((*uses)[i], runs[i]);
          held.push_back({std::move((*uses)[i]), runs[i]});
        }
        break;
      }
      case 2:
        if (!held.empty()) held.pop_front();
        break;
      default:
        cache.Drop(Id(1 + random() % 8));
    }
    while (held.size() > 5) held.pop_front();
    // No page has two owners; entries in use have what they reserved.
    std::map<uint32_t, CacheKey> owners;
    uint64_t in_use = 0;
    std::set<const uint32_t*> seen;
    for (const Held& one : held) {
      const std::span<const uint32_t> pages = one.use.page_ids();
      for (const TokenRun& run : one.runs) {
        REQUIRE(pages[run.first / 64] < kPages);
        REQUIRE(pages[(run.first + run.tokens - 1) / 64] < kPages);
      }
      if (!seen.insert(pages.data()).second) continue;
      for (const uint32_t page : pages) {
        if (page == PageCache::kNoPage) continue;
        REQUIRE(page < kPages);
        REQUIRE(owners.emplace(page, one.use.key()).second);
        ++in_use;
      }
    }
    peak = std::max(peak, cache.bytes_in_use());
    REQUIRE(cache.bytes_in_use() == in_use * kPageBytes + cache.evictable_bytes());
    REQUIRE(cache.bytes_in_use() <= cache.capacity_bytes());
    REQUIRE(cache.peak_bytes() >= peak);
  }
  held.clear();
  REQUIRE(cache.bytes_in_use() == cache.evictable_bytes());
  for (uint64_t chunk = 1; chunk <= 8; ++chunk) cache.Drop(Id(chunk));
  REQUIRE(cache.bytes_in_use() == 0);
  REQUIRE(cache.entries() == 0);
}

}  // namespace
}  // namespace latentd
