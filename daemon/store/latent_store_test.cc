#include <catch2/catch.hpp>

#include <cstring>
#include <string>

#include "daemon/store/latent_store.h"
#include "daemon/store/store_test_util.h"

namespace latentd {
namespace {

using absl::StatusCode;

bool Mentions(const absl::Status& status, const std::string& text) {
  return status.ToString().find(text) != std::string::npos;
}

TEST_CASE("records come back from the store as they were published") {
  TinyWorld world(8);
  const RecordRange range{0, 2, 0, 100};
  REQUIRE(world.Publish(1, range).ok());
  const RecordRange part{1, 1, 60, 10};  // crosses a page
  const auto bytes = world.store->FetchBytes(TinyId(1), part);
  REQUIRE(bytes.ok());
  std::vector<std::byte> out(*bytes);
  REQUIRE(world.store->Fetch(TinyId(1), part, out, world.now).ok());
  CHECK(out == TinyRecords(world.layout(), part));
  CHECK(world.store->CheckInvariants().ok());
  CHECK(world.pages_free() == 6);
}

TEST_CASE("a layer is visible only up to the records that arrived in it without a gap") {
  TinyWorld world(8);
  const auto visible = [&](uint32_t layer, uint32_t tokens) {
    auto pin = world.store->PinForAttend(TinyId(1), layer, tokens, world.now);
    if (pin.ok()) world.store->Unpin(*pin, world.now);
    return pin.status().code();
  };
  CHECK(visible(0, 1) == StatusCode::kNotFound);
  REQUIRE(world.Publish(1, {0, 1, 0, 10}).ok());
  REQUIRE(world.Publish(1, {0, 1, 20, 10}).ok());
  CHECK(visible(0, 10) == StatusCode::kOk);
  CHECK(visible(0, 11) == StatusCode::kOutOfRange);
  CHECK(visible(1, 1) == StatusCode::kOutOfRange);
  CHECK(visible(1, 0) == StatusCode::kOk);
  CHECK(visible(2, 0) == StatusCode::kOutOfRange);
  REQUIRE(world.Publish(1, {0, 1, 5, 20}).ok());
  CHECK(visible(0, 30) == StatusCode::kOk);
  CHECK(world.store->counts().chunks_pinned == 0);
}

TEST_CASE("the same bytes again are ok, other bytes change nothing") {
  TinyWorld world(8);
  REQUIRE(world.Publish(1, {0, 2, 0, 10}).ok());
  const auto before = world.store->Stat(TinyId(1), world.now)->checksum;
  CHECK(world.Publish(1, {0, 2, 0, 10}).ok());
  CHECK(world.Publish(1, {0, 2, 3, 4}).ok());

  const auto status = world.Publish(1, {1, 1, 8, 4}, kAlice, /*seed=*/5);
  CHECK(status.code() == StatusCode::kAlreadyExists);
  CHECK(Mentions(status, "layer 1, token 8"));
  CHECK(world.store->Stat(TinyId(1), world.now)->checksum == before);
  CHECK(world.store->Stat(TinyId(1), world.now)->tokens == 10);

  CHECK(world.Publish(1, {0, 2, 8, 4}).ok());  // half of it is new
  CHECK(world.store->Stat(TinyId(1), world.now)->tokens == 12);
  CHECK(world.store->counts().published_bytes == 2 * 12 * world.layout().record_bytes());
}

TEST_CASE("a record that is not finite is refused by name and leaves nothing behind") {
  TinyWorld world(8);
  const RecordRange range{0, 2, 0, 10};
  auto records = TinyRecords(world.layout(), range);
  const size_t record = 10 + 7;  // layer 1, token 7
  const uint16_t infinity = 0x7f80;
  std::memcpy(records.data() + record * world.layout().record_bytes(), &infinity, 2);
  const auto status = world.store->Publish(TinyId(1), range, records, kAlice, world.now);
  CHECK(status.code() == StatusCode::kInvalidArgument);
  CHECK(Mentions(status, "layer 1, token 7"));
  CHECK_FALSE(world.Has(1));
  CHECK_FALSE(world.store->HoldsAnything(kAlice));
  CHECK(world.pages_free() == 8);
}

TEST_CASE("ranges that make no sense are refused by name") {
  TinyWorld world(8);
  CHECK(world.Publish(1, {0, 0, 0, 1}).code() == StatusCode::kInvalidArgument);
  CHECK(world.Publish(1, {0, 1, 0, 0}).code() == StatusCode::kInvalidArgument);
  CHECK(world.Publish(1, {1, 2, 0, 1}).code() == StatusCode::kOutOfRange);
  CHECK(world.Publish(1, {0, 1, 8 * 64, 1}).code() == StatusCode::kOutOfRange);
  const std::vector<std::byte> short_payload(3);
  CHECK(world.store->Publish(TinyId(1), {0, 1, 0, 1}, short_payload, kAlice, world.now).code() ==
        StatusCode::kInvalidArgument);
  const RecordRange overflow{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff};
  CHECK(world.store->Publish(TinyId(1), overflow, {}, kAlice, world.now).code() ==
        StatusCode::kOutOfRange);
  CHECK_FALSE(world.store->FetchBytes(TinyId(1), overflow).ok());
  CHECK(world.store->counts().chunks_open == 0);
}

TEST_CASE("a chunk may not be scattered over the token space") {
  TinyWorld world(4096);
  REQUIRE(world.Publish(1, {0, 1, 0, 1}).ok());
  CHECK(world.Publish(1, {0, 1, LatentStore::kMaxHoleTokens + 2, 1}).code() ==
        StatusCode::kOutOfRange);
  for (uint32_t i = 1; i < LatentStore::kMaxRuns; ++i) {
    REQUIRE(world.Publish(1, {0, 1, 2 * i, 1}).ok());
  }
  CHECK(world.Publish(1, {0, 1, 2 * LatentStore::kMaxRuns, 1}).code() == StatusCode::kOutOfRange);
  CHECK(world.Publish(1, {0, 1, 1, 1}).ok());
  CHECK(world.store->CheckInvariants().ok());
}

TEST_CASE("a seal needs every record and the publisher's checksum") {
  TinyWorld world(8);
  CHECK(world.Seal(1, 10).code() == StatusCode::kNotFound);
  REQUIRE(world.Publish(1, {0, 2, 0, 10}).ok());
  CHECK(world.Seal(1, 0).code() == StatusCode::kInvalidArgument);
  CHECK(world.Seal(1, 9).code() == StatusCode::kInvalidArgument);
  REQUIRE(world.Publish(1, {0, 1, 10, 2}).ok());
  const auto gap = world.Seal(1, 12);
  CHECK(gap.code() == StatusCode::kFailedPrecondition);
  CHECK(Mentions(gap, "layer 1, token 10"));
  REQUIRE(world.Publish(1, {1, 1, 10, 2}).ok());
  const uint64_t checksum = TinyChecksum(world.layout(), 12);
  CHECK(world.store->Seal(TinyId(1), 12, checksum + 1, world.now).code() == StatusCode::kDataLoss);
  CHECK_FALSE(world.store->Stat(TinyId(1), world.now)->sealed);
  CHECK(world.store->Seal(TinyId(1), 12, checksum, world.now).ok());
}

TEST_CASE("a sealed chunk never changes") {
  TinyWorld world(8);
  REQUIRE(world.Fill(1, 10).ok());
  CHECK(world.Seal(1, 10).ok());
  CHECK(world.store->Seal(TinyId(1), 10, 1, world.now).code() == StatusCode::kAlreadyExists);
  CHECK(world.Seal(1, 11).code() == StatusCode::kAlreadyExists);
  CHECK(world.Publish(1, {0, 2, 0, 10}, kBob).ok());
  CHECK(world.Publish(1, {0, 2, 0, 10}, kBob, /*seed=*/3).code() == StatusCode::kAlreadyExists);
  CHECK(world.Publish(1, {0, 2, 10, 1}, kBob).code() == StatusCode::kFailedPrecondition);
  CHECK_FALSE(world.store->HoldsAnything(kBob));
  CHECK(world.store->CheckInvariants().ok());
}

TEST_CASE("chunks are listed in order by the digits that their id starts with") {
  TinyWorld world(8);
  for (const uint64_t n : {0x1203u, 0x1201u, 0x3401u}) REQUIRE(world.Fill(n, 1).ok());
  const auto listed = [&](const char* prefix, uint32_t limit) {
    return world.store->List(prefix, limit, world.now);
  };
  CHECK(listed("", 10).total == 3);
  CHECK(listed("12", 10).chunks.size() == 2);
  CHECK(listed("12", 10).chunks[0].id == TinyId(0x1201));
  CHECK(listed("12", 1).chunks.size() == 1);
  CHECK(listed("12", 1).more);
  CHECK_FALSE(listed("12", 2).more);
  CHECK(listed("12", 1).total == std::nullopt);  // nobody counts them
  CHECK(listed("", 1).total == 3);
  CHECK(listed("34", 10).chunks[0].sealed);
  for (const char* none : {"35", "not hexadecimal", "000000000000000000000000000000000"}) {
    CHECK(listed(none, 10).chunks.empty());
    CHECK_FALSE(listed(none, 0).more);
  }
}

TEST_CASE("stores that cannot be are refused") {
  const auto code = [](StoreOptions options) {
    return LatentStore::Create(options).status().code();
  };
  const Layout layout = TinyLayout();
  CHECK(code({.layout = layout, .cache_bytes = layout.page_bytes()}) == StatusCode::kOk);
  CHECK(code({.layout = layout, .cache_bytes = layout.page_bytes() - 1}) ==
        StatusCode::kInvalidArgument);
  CHECK(code({.layout = TinyLayout(0), .cache_bytes = 1 << 20}) == StatusCode::kInvalidArgument);
  CHECK(code({.layout = layout, .cache_bytes = 1 << 20, .high_watermark = 0.5}) ==
        StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace latentd
