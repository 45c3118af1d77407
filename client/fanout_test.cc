#include "client/fanout.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <random>
#include <vector>

#include "catch2/catch.hpp"
#include "kernels/bf16.h"
#include "kernels/reference/reference.h"

namespace latentd {
namespace {

constexpr Geometry kGeometry{.latent_width = 16, .rope_width = 4};
constexpr float kScale = 0.4f;

uint32_t Draw(std::mt19937& random, uint32_t low, uint32_t high) {
  return std::uniform_int_distribution<uint32_t>(low, high)(random);
}

std::vector<Bf16> RandomValues(std::mt19937& random, size_t count) {
  std::normal_distribution<float> normal;
  std::vector<Bf16> values(count);
  for (Bf16& value : values) value = FloatToBf16(normal(random));
  return values;
}

// One layer's cache: each chunk has pages of its own, in the order of the chunks' making.
class World {
 public:
  explicit World(std::mt19937& random) : random_(random) {}

  VisibleChunk AddChunk(uint32_t tokens, uint32_t visible) {
    const ChunkId id{.hi = next_id_++, .lo = 7};
    std::vector<uint32_t>& pages = pages_[id];
    for (uint32_t page = 0; page * kPageTokens < tokens; ++page) {
      pages.push_back(static_cast<uint32_t>(arena_.size() / PageValues()));
      const std::vector<Bf16> records = RandomValues(random_, PageValues());
      arena_.insert(arena_.end(), records.begin(), records.end());
    }
    return {id, visible};
  }

  const uint32_t* PagesOf(const ChunkId& id) const { return pages_.at(id).data(); }
  CacheView cache() const {
    return {reinterpret_cast<const std::byte*>(arena_.data()), PageValues() * sizeof(Bf16),
            PageValues() * sizeof(Bf16)};
  }
  // The first `tokens` tokens of the concatenated chunks, as pages of a cache of their own.
  std::vector<Bf16> Concatenate(std::span<const VisibleChunk> chunks, uint32_t tokens) const {
    std::vector<Bf16> all;
    for (const VisibleChunk& chunk : chunks) {
      for (uint32_t t = 0; t < chunk.visible_tokens && tokens > 0; ++t, --tokens) {
        const uint32_t page = pages_.at(chunk.id)[t / kPageTokens];
        const Bf16* record =
            arena_.data() + page * PageValues() + t % kPageTokens * kGeometry.row_width();
        all.insert(all.end(), record, record + kGeometry.row_width());
      }
    }
    return all;
  }
  static size_t PageValues() { return kPageTokens * kGeometry.row_width(); }

 private:
  std::mt19937& random_;
  uint64_t next_id_ = 1;
  std::vector<Bf16> arena_;
  std::map<ChunkId, std::vector<uint32_t>> pages_;
};

struct Query {
  std::vector<std::vector<VisibleChunk>> chunks;
  std::vector<QueryGroup> groups;
  uint32_t heads = 1;
  uint32_t tokens = 0;
  std::vector<Bf16> rows;
};

Query RandomQuery(std::mt19937& random, World& world) {
  Query query;
  query.heads = Draw(random, 1, 4);
  const uint32_t groups = Draw(random, 1, 4);
  query.chunks.resize(groups);
  for (auto& chunks : query.chunks) {
    const uint32_t count = Draw(random, 0, 5);
    for (uint32_t c = 0; c < count; ++c) {
      const uint32_t tokens = Draw(random, 1, 100);
      chunks.push_back(world.AddChunk(tokens, Draw(random, 0, tokens)));
    }
    const uint32_t tokens = Draw(random, 1, 9);
    query.groups.push_back({.tokens = tokens, .causal = Draw(random, 0, 1) == 1, .chunks = chunks});
    query.tokens += tokens;
  }
  query.rows = RandomValues(random, size_t{query.tokens} * query.heads * kGeometry.row_width());
  return query;
}

struct Result {
  std::vector<float> out;
  std::vector<float> lse;
};

// Straight from the definition: every query token over the concatenation of what it sees.
Result WholeAnswer(const World& world, const Query& query) {
  Result result;
  uint32_t token = 0;
  for (const QueryGroup& group : query.groups) {
    uint32_t total = 0;
    for (const VisibleChunk& chunk : group.chunks) total += chunk.visible_tokens;
    for (uint32_t i = 0; i < group.tokens; ++i, ++token) {
      const uint32_t hidden = group.causal ? group.tokens - 1 - i : 0;
      const uint32_t seen = total > hidden ? total - hidden : 0;
      std::vector<Bf16> records = world.Concatenate(group.chunks, seen);
      records.resize((seen / kPageTokens + 1) * World::PageValues());
      std::vector<uint32_t> pages(seen / kPageTokens + 1);
      for (uint32_t p = 0; p < pages.size(); ++p) pages[p] = p;
      const Segment segment{.page_ids = pages.data(), .visible_tokens = seen};
      const Group one{.tokens = 1, .segments = 1};
      std::vector<float> out(query.heads * kGeometry.latent_width);
      std::vector<float> lse(query.heads);
      const Problem problem{
          .tokens = 1,
          .heads = query.heads,
          .scale = kScale,
          .groups = {&one, 1},
          .segments = {&segment, 1},
          .rows = query.rows.data() + size_t{token} * query.heads * kGeometry.row_width(),
          .out_format = OutFormat::kFp32,
          .out = out.data(),
          .lse = lse.data()};
      const uint64_t page_bytes = World::PageValues() * sizeof(Bf16);
      ReferenceAttend(kGeometry, RecordFormat::kBf16,
                      {reinterpret_cast<const std::byte*>(records.data()), page_bytes, page_bytes},
                      problem);
      result.out.insert(result.out.end(), out.begin(), out.end());
      result.lse.insert(result.lse.end(), lse.begin(), lse.end());
    }
  }
  return result;
}

// What a holder does with a message.
Result HolderAnswer(const World& world, const Query& query, const AttendMessage& message) {
  const size_t row_values = size_t{query.heads} * kGeometry.row_width();
  std::vector<Bf16> rows;
  for (const MessageRun& run : message.runs) {
    REQUIRE(run.message_token == rows.size() / row_values);
    rows.insert(rows.end(), query.rows.begin() + run.first_token * row_values,
                query.rows.begin() + (run.first_token + run.tokens) * row_values);
  }
  std::vector<Group> groups;
  std::vector<Segment> segments;
  for (const wire::GroupEntry& g : message.groups) {
    groups.push_back({g.first_token, g.tokens, g.first_chunk, g.chunks, g.causal == 1});
  }
  for (const wire::ChunkEntry& c : message.chunks) {
    segments.push_back({world.PagesOf({c.chunk_hi, c.chunk_lo}), c.visible_tokens, c.tokens_after});
  }
  Result result;
  result.out.resize(size_t{message.tokens} * query.heads * kGeometry.latent_width);
  result.lse.resize(size_t{message.tokens} * query.heads);
  ReferenceAttend(kGeometry, RecordFormat::kBf16, world.cache(),
                  {.tokens = message.tokens,
                   .heads = query.heads,
                   .scale = kScale,
                   .groups = groups,
                   .segments = segments,
                   .rows = rows.data(),
                   .out_format = OutFormat::kFp32,
                   .out = result.out.data(),
                   .lse = result.lse.data()});
  return result;
}

Result Merged(const Query& query, const std::vector<AttendMessage>& messages,
              const std::vector<Result>& answers) {
  std::vector<MessagePartial> partials;
  for (size_t m = 0; m < messages.size(); ++m) {
    partials.push_back(
        {messages[m].runs, {answers[m].out.data(), answers[m].lse.data(), OutFormat::kFp32}});
  }
  Result result;
  result.out.assign(size_t{query.tokens} * query.heads * kGeometry.latent_width, -1);
  result.lse.assign(size_t{query.tokens} * query.heads, 99);
  AssemblePartials(partials, query.tokens, query.heads, kGeometry.latent_width, OutFormat::kFp32,
                   result.out.data(), result.lse.data());
  return result;
}

void CheckClose(const Result& got, const Result& expected) {
  REQUIRE(got.lse.size() == expected.lse.size());
  for (size_t i = 0; i < got.lse.size(); ++i) {
    if (std::isinf(expected.lse[i])) {
      REQUIRE(got.lse[i] == expected.lse[i]);
    } else {
      REQUIRE(std::abs(got.lse[i] - expected.lse[i]) < 1e-4f);
    }
  }
  REQUIRE(got.out.size() == expected.out.size());
  for (size_t i = 0; i < got.out.size(); ++i)
    REQUIRE(std::abs(got.out[i] - expected.out[i]) < 1e-4f);
}

TEST_CASE("any split over holders and messages, merged, is attention over the whole") {
  for (uint32_t seed = 0; seed < 60; ++seed) {
    INFO("seed " << seed);
    std::mt19937 random(seed);
    World world(random);
    const Query query = RandomQuery(random, world);
    const auto split = SplitIntoPieces(query.groups);
    REQUIRE(split.ok());
    CHECK(split->tokens == query.tokens);

    std::map<uint32_t, std::vector<Piece>> by_holder;
    const uint32_t holders = Draw(random, 1, 4);
    for (const Piece& piece : split->pieces) by_holder[Draw(random, 1, holders)].push_back(piece);
    const MessageBounds bounds{
        .chunks = Draw(random, 1, 8), .tokens = Draw(random, 1, 12), .work = Draw(random, 1, 400)};

    std::vector<AttendMessage> messages;
    for (const auto& [holder, pieces] : by_holder) {
      for (AttendMessage& message : PackMessages(pieces, bounds)) {
        CHECK(message.chunks.size() <= bounds.chunks);
        CHECK(message.tokens <= bounds.tokens);
        uint64_t work = 0;
        for (const Piece& piece : message.pieces)
          work += uint64_t{piece.tokens} * piece.visible_tokens;
        // One query token of one chunk is the least there is.
        CHECK((work <= bounds.work || (message.pieces.size() == 1 && message.tokens == 1)));
        CHECK(message.pieces.size() == message.chunks.size());
        CHECK(message.runs.size() == message.groups.size());
        messages.push_back(std::move(message));
      }
    }
    std::vector<Result> answers;
    for (const AttendMessage& message : messages)
      answers.push_back(HolderAnswer(world, query, message));
    CheckClose(Merged(query, messages, answers), WholeAnswer(world, query));
  }
}

TEST_CASE("chunks of one shift share a group, and every other shift is a group of the same rows") {
  const std::vector<VisibleChunk> chunks = {
      {{1, 1}, 10}, {{2, 2}, 20, -7}, {{3, 3}, 5}, {{4, 4}, 6, -7}, {{5, 5}, 4, 300}};
  const std::vector<QueryGroup> groups = {{.tokens = 3, .causal = true, .chunks = chunks},
                                          {.tokens = 2, .chunks = {chunks.data(), 1}}};
  const auto split = SplitIntoPieces(groups);
  REQUIRE(split.ok());
  const std::vector<AttendMessage> messages = PackMessages(split->pieces, {});
  REQUIRE(messages.size() == 1);
  const AttendMessage& message = messages[0];
  CHECK(message.tokens == 3 * 3 + 2);
  REQUIRE(message.groups.size() == 4);
  const std::vector<int32_t> shifts = {-7, 0, 300, 0};
  const std::vector<uint32_t> counts = {2, 2, 1, 1}, firsts = {0, 0, 0, 3};
  for (size_t g = 0; g < 4; ++g) {
    CAPTURE(g);
    CHECK(message.groups[g].position_shift == shifts[g]);
    CHECK(message.groups[g].chunks == counts[g]);
    CHECK(message.runs[g].first_token == firsts[g]);
  }
  // Where a chunk stands in the sequence is as it was given.
  CHECK(message.chunks[0].chunk_hi == 2);
  CHECK(message.chunks[0].tokens_after == 15);
  CHECK(message.chunks[1].chunk_hi == 4);
  CHECK(message.chunks[1].tokens_after == 4);
  CHECK(message.chunks[2].tokens_after == 35);
}

TEST_CASE("a message that failed is replaced by others over its own pieces") {
  std::mt19937 random(1234);
  World world(random);
  const Query query = RandomQuery(random, world);
  const auto split = SplitIntoPieces(query.groups);
  REQUIRE(split.ok());
  std::vector<AttendMessage> messages = PackMessages(split->pieces, {.chunks = 3, .tokens = 2});
  REQUIRE(messages.size() > 1);
  const std::vector<Piece> lost = messages.back().pieces;
  messages.pop_back();
  for (AttendMessage& message : PackMessages(lost, {.chunks = 1, .tokens = 1}))
    messages.push_back(std::move(message));
  std::vector<Result> answers;
  for (const AttendMessage& message : messages)
    answers.push_back(HolderAnswer(world, query, message));
  CheckClose(Merged(query, messages, answers), WholeAnswer(world, query));
}

TEST_CASE("one holder gets one message with all its chunks") {
  const std::vector<VisibleChunk> chunks = {{{1, 1}, 10}, {{2, 2}, 20}, {{3, 3}, 5}};
  const std::vector<QueryGroup> groups = {{.tokens = 4, .causal = true, .chunks = chunks},
                                          {.tokens = 1, .chunks = chunks}};
  const auto split = SplitIntoPieces(groups);
  REQUIRE(split.ok());
  REQUIRE(split->pieces.size() == 6);
  CHECK(split->pieces[0].tokens_after == 25);
  CHECK(split->pieces[2].tokens_after == 0);
  const std::vector<AttendMessage> messages = PackMessages(split->pieces, {});
  REQUIRE(messages.size() == 1);
  CHECK(messages[0].groups.size() == 2);
  CHECK(messages[0].chunks.size() == 6);
  CHECK(messages[0].tokens == 5);
}

TEST_CASE("a holder is sent only the query tokens that it is needed for") {
  const std::vector<VisibleChunk> here = {{{1, 1}, 10}};
  const std::vector<VisibleChunk> there = {{{2, 2}, 20}};
  const std::vector<QueryGroup> groups = {{.tokens = 4, .chunks = here},
                                          {.tokens = 3, .chunks = there}};
  const auto split = SplitIntoPieces(groups);
  REQUIRE(split.ok());
  const std::vector<AttendMessage> messages = PackMessages({&split->pieces[1], 1}, {});
  REQUIRE(messages.size() == 1);
  CHECK(messages[0].tokens == 3);
  CHECK(messages[0].runs[0].first_token == 4);
  CHECK(messages[0].groups[0].first_token == 0);
}

TEST_CASE("nothing visible comes out empty") {
  const std::vector<QueryGroup> groups = {{.tokens = 2, .chunks = {}}};
  const auto split = SplitIntoPieces(groups);
  REQUIRE(split.ok());
  CHECK(split->pieces.empty());
  std::vector<float> out(2 * 16, 5);
  std::vector<float> lse(2, 5);
  AssemblePartials({}, 2, 1, 16, OutFormat::kFp32, out.data(), lse.data());
  for (const float value : out) CHECK(value == 0);
  for (const float value : lse) CHECK(value == -std::numeric_limits<float>::infinity());
}

TEST_CASE("groups that are no query are refused") {
  CHECK(absl::IsInvalidArgument(SplitIntoPieces({}).status()));
  const std::vector<QueryGroup> empty = {{.tokens = 0, .chunks = {}}};
  CHECK(absl::IsInvalidArgument(SplitIntoPieces(empty).status()));
  const std::vector<VisibleChunk> huge = {{{1, 1}, 4'000'000'000u}, {{2, 2}, 4'000'000'000u}};
  const std::vector<QueryGroup> too_long = {{.tokens = 1, .chunks = huge}};
  CHECK(absl::IsInvalidArgument(SplitIntoPieces(too_long).status()));
}

}  // namespace
}  // namespace latentd
