// Fetching into a cache, with answers that the test makes up.
#include "client/cache_fetch.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cstring>
#include <optional>
#include <random>

#include "client/local_part.h"
#include "kernels/bf16.h"
#include "kernels/rotate.h"

namespace latentd {
namespace {

constexpr ChunkId kChunk = {.hi = 1, .lo = 2};
constexpr uint32_t kTokens = 150;

Layout TestLayout() {
  Layout layout;
  layout.layers = 3;
  layout.latent_width = 8;
  layout.rope_width = 4;
  return layout;
}

std::unique_ptr<ChunkCache> Cache(const Layout& layout, uint64_t pages) {
  auto cache = ChunkCache::Create(layout, pages * layout.page_bytes(), 0);
  REQUIRE(cache.ok());
  return *std::move(cache);
}

// A chunk's records [layers][tokens][record], and the answers of its holder.
struct Source {
  explicit Source(const Layout& of) : layout(of) {
    std::mt19937_64 random(5);
    std::normal_distribution<float> normal;
    records.resize(layout.layers * kTokens * layout.record_bytes());
    for (size_t i = 0; i < records.size(); i += 2) {
      const Bf16 value = FloatToBf16(normal(random));
      std::memcpy(&records[i], &value, sizeof(value));
    }
  }
  const std::byte* At(uint32_t layer, uint32_t token) const {
    return records.data() + (uint64_t{layer} * kTokens + token) * layout.record_bytes();
  }
  ExchangeResult Answer(const wire::RangeBody& range) {
    const uint64_t row_bytes = range.tokens * layout.record_bytes();
    PayloadBuffer buffer = pool.Take(range.layers * row_bytes);
    for (uint32_t i = 0; i < range.layers; ++i) {
      std::memcpy(buffer.data() + i * row_bytes, At(range.first_layer + i, range.first_token),
                  row_bytes);
    }
    ExchangeResult result;
    result.payload = ReplyPayload(std::move(buffer));
    return result;
  }

  Layout layout;
  std::vector<std::byte> records;
  PayloadPool pool;
};

// Answers every request that the operation makes, in any order.
struct Run {
  Run(Operation& operation, Source& source, uint64_t payload_bytes = 1 << 20) {
    SessionInfo session;
    session.limits.payload_bytes_per_request = payload_bytes;
    std::vector<uint32_t> items(operation.initial_items());
    for (uint32_t i = 0; i < items.size(); ++i) items[i] = i;
    std::vector<Built> built;
    REQUIRE(operation.Build({session, 0, 4096, source.pool}, items, &built) == absl::OkStatus());
    std::shuffle(built.begin(), built.end(), std::mt19937_64(9));
    for (const Built& message : built) {
      REQUIRE(message.items.size() == 1);
      wire::RangeBody range;
      std::memcpy(&range, message.out.header.data() + sizeof(wire::RequestHeader), sizeof(range));
      REQUIRE(message.out.reply_payload_bytes ==
              uint64_t{range.layers} * range.tokens * source.layout.record_bytes());
      REQUIRE(message.out.reply_payload_bytes <= payload_bytes);
      REQUIRE(operation.OnAnswer(message.items, message.tag, false, source.Answer(range)) ==
              absl::OkStatus());
      ++requests;
    }
  }
  size_t requests = 0;
};

std::vector<CacheTask> Tasks(ChunkCache& cache, int32_t shift, std::vector<TokenRun> runs) {
  const CachePart part{.chunk = kChunk, .position_shift = shift, .runs = runs};
  auto tasks = CheckCacheParts({&part, 1}, cache);
  REQUIRE(tasks.ok());
  const ChunkStat stat{.id = kChunk, .present = true, .sealed = true, .tokens = kTokens};
  REQUIRE(FillIn({&stat, 1}, &*tasks) == absl::OkStatus());
  return *std::move(tasks);
}

uint64_t Fetch(ChunkCache& cache, Source& source, int32_t shift, std::vector<TokenRun> runs) {
  std::optional<CacheFetchReport> report;
  auto fetch = MakeCacheFetch(Tasks(cache, shift, std::move(runs)), cache,
                              [&](absl::StatusOr<CacheFetchReport> r) { report = *r; });
  REQUIRE(fetch.ok());
  const Run run(**fetch, source, 2000);
  (*fetch)->Finish(absl::OkStatus());
  REQUIRE(report.has_value());
  CHECK(report->requests == run.requests);
  return report->bytes;
}

TEST_CASE("what is fetched in pieces is the chunk, turned once") {
  const int32_t shift = GENERATE(0, 77);
  const Layout layout = TestLayout();
  Source source(layout);
  const auto cache = Cache(layout, 8);
  const uint64_t token_bytes = layout.layers * layout.record_bytes();
  CHECK(Fetch(*cache, source, shift, {{60, 10}, {3, 1}}) == 11 * token_bytes);
  CHECK(Fetch(*cache, source, shift, {{60, 10}}) == 0);
  CHECK(Fetch(*cache, source, shift, {}) == (kTokens - 11) * token_bytes);
  CHECK(cache->counters().spliced_records == (shift == 0 ? 0 : layout.layers * kTokens));
  CHECK(cache->counters().fetched_bytes == kTokens * token_bytes);

  std::vector<std::byte> expected = source.records;
  RotateRecords(layout.geometry(), layout.record_format, *cache->RotationBy(shift), expected.data(),
                layout.layers * kTokens);
  const PageCache::Use use = cache->pages().Find({kChunk, shift});
  for (uint32_t layer = 0; layer < layout.layers; ++layer) {
    for (uint32_t token = 0; token < kTokens; ++token) {
      const std::byte* record = cache->Find(use, layer, token);
      REQUIRE(record != nullptr);
      const std::byte* wanted =
          expected.data() + (uint64_t{layer} * kTokens + token) * layout.record_bytes();
      REQUIRE(std::memcmp(record, wanted, layout.record_bytes()) == 0);
    }
  }
}

TEST_CASE("records that two calls fetched at once are taken and turned once") {
  const Layout layout = TestLayout();
  Source source(layout);
  const auto cache = Cache(layout, 8);
  int ended = 0;
  const auto count = [&](absl::StatusOr<CacheFetchReport> r) { ended += r.ok(); };
  auto one = MakeCacheFetch(Tasks(*cache, 9, {}), *cache, count);
  auto other = MakeCacheFetch(Tasks(*cache, 9, {{100, 20}}), *cache, count);
  REQUIRE(one.ok());
  REQUIRE(other.ok());
  const Run first(**other, source), second(**one, source);
  (*one)->Finish(absl::OkStatus());
  (*other)->Finish(absl::OkStatus());
  CHECK(ended == 2);
  CHECK(cache->counters().spliced_records == layout.layers * kTokens);
  CHECK(cache->counters().bytes == 3 * layout.page_bytes());
}

TEST_CASE("a fetch that fails keeps what came and gives the other pages back") {
  const Layout layout = TestLayout();
  Source source(layout);
  const auto cache = Cache(layout, 8);
  Fetch(*cache, source, 0, {{0, 64}});
  absl::Status said;
  auto fetch = MakeCacheFetch(Tasks(*cache, 0, {}), *cache,
                              [&](absl::StatusOr<CacheFetchReport> r) { said = r.status(); });
  REQUIRE(fetch.ok());
  CHECK(cache->counters().bytes == 3 * layout.page_bytes());
  (*fetch)->Finish(absl::UnavailableError("gone"));
  CHECK(absl::IsUnavailable(said));
  CHECK(cache->counters().bytes == layout.page_bytes());
  CHECK(cache->pages().evictable_bytes() == layout.page_bytes());
}

TEST_CASE("what cannot be fetched is said before anything is asked") {
  Layout layout = TestLayout();
  auto cache = Cache(layout, 2);
  const auto refused = [&](CachePart part) { return CheckCacheParts({&part, 1}, *cache).status(); };
  const TokenRun none[] = {{5, 0}};
  const TokenRun far[] = {{0xffffffff, 2}};
  CHECK(absl::IsInvalidArgument(CheckCacheParts({}, *cache).status()));
  CHECK(absl::IsInvalidArgument(refused({.chunk = kChunk, .runs = none})));
  CHECK(absl::IsOutOfRange(refused({.chunk = kChunk, .runs = far})));
  CHECK(absl::IsOutOfRange(refused({.chunk = kChunk, .first_layer = 3})));
  CHECK(absl::IsOutOfRange(refused({.chunk = kChunk, .first_layer = 1, .layers = 3})));
  const absl::Status beyond = refused({.chunk = kChunk, .position_shift = 1 << 25});
  CHECK(absl::IsOutOfRange(beyond));
  CHECK(beyond.message().find(ToString(kChunk)) != std::string::npos);

  const auto none_done = [](const auto&) {};
  const auto past_end = MakeCacheFetch(Tasks(*cache, 0, {{100, 51}}), *cache, none_done);
  CHECK(absl::IsOutOfRange(past_end.status()));
  const auto no_room = MakeCacheFetch(Tasks(*cache, 0, {}), *cache, none_done);
  CHECK(absl::IsResourceExhausted(no_room.status()));
  const std::string needed = std::to_string(3 * layout.page_bytes());
  CHECK(no_room.status().message().find(needed) != std::string::npos);

  layout.rope_width = 0;
  cache = Cache(layout, 2);
  CHECK(absl::IsFailedPrecondition(refused({.chunk = kChunk, .position_shift = 1})));
  CHECK(refused({.chunk = kChunk}).ok());
  CHECK(absl::IsInvalidArgument(ChunkCache::Create(layout, layout.page_bytes() - 1, 0).status()));
}

TEST_CASE("only chunks that are there and sealed are cached") {
  const auto cache = Cache(TestLayout(), 2);
  const CachePart part{.chunk = kChunk};
  auto tasks = CheckCacheParts({&part, 1}, *cache);
  REQUIRE(tasks.ok());
  CHECK(UnknownChunks(*tasks) == std::vector<ChunkId>{kChunk});
  ChunkStat stat{.id = kChunk};
  CHECK(absl::IsNotFound(FillIn({&stat, 1}, &*tasks)));
  stat.present = true;
  CHECK(absl::IsFailedPrecondition(FillIn({&stat, 1}, &*tasks)));
  stat.sealed = true;
  CHECK(absl::IsInternal(FillIn({&stat, 1}, &*tasks)));
}

TEST_CASE("a row that is not finite is named, as a holder would") {
  const Layout layout = TestLayout();
  Source source(layout);
  const auto cache = Cache(layout, 3);
  Fetch(*cache, source, 0, {});
  std::vector<Bf16> rows(2 * layout.geometry().row_width());
  rows.back() = Bf16{0x7f80};
  const AttendQuery query{.layer = 1, .scale = 1, .heads = 2, .rows = rows};
  std::vector<Piece> pieces = {{.tokens = 1, .chunk = kChunk, .visible_tokens = kTokens}};
  const auto taken = LocalPart::Take(query, *cache, &pieces);
  CHECK(absl::IsInvalidArgument(taken.status()));
  CHECK(taken.status().message().find("head 1 of token 0") != std::string::npos);
}

TEST_CASE("a part that nobody waits for ends without harm, before or after it began") {
  const Layout layout = TestLayout();
  Source source(layout);
  const auto cache = Cache(layout, 3);
  Fetch(*cache, source, 0, {});
  const std::vector<Bf16> rows(2 * layout.geometry().row_width());
  const AttendQuery query{.layer = 1, .scale = 1, .heads = 2, .rows = rows};
  std::vector<std::unique_ptr<LocalPart>> parts;
  for (int i = 0; i < 12; ++i) {
    std::vector<Piece> pieces = {{.tokens = 1, .chunk = kChunk, .visible_tokens = 100}};
    auto taken = LocalPart::Take(query, *cache, &pieces);
    REQUIRE(taken.ok());
    REQUIRE(pieces.empty());
    parts.push_back(*std::move(taken));
  }
  CHECK(cache->pages().evictable_bytes() == 0);
  while (parts.size() > 1) parts.erase(parts.begin() + static_cast<ptrdiff_t>(parts.size() / 2));
  absl::StatusOr<bool> done = false;
  while (done.ok() && !*done) done = parts[0]->Work();
  CHECK(done.ok());
  parts.clear();
  CHECK(cache->pages().evictable_bytes() == 3 * layout.page_bytes());
}

}  // namespace
}  // namespace latentd
