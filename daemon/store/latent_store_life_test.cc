// What stays, what goes, and when: pins, leases, sessions, eviction.
#include <catch2/catch.hpp>

#include <string>

#include "daemon/store/latent_store.h"
#include "daemon/store/store_test_util.h"

namespace latentd {
namespace {

using absl::StatusCode;

TEST_CASE(
    "above the high watermark the least recently used sealed chunks go, down to the low one") {
  TinyWorld world(10, {.high_watermark = 0.8, .low_watermark = 0.5});
  for (uint64_t n = 1; n <= 8; ++n) REQUIRE(world.Fill(n, 64).ok());
  CHECK(world.store->counts().evicted_chunks == 0);
  // Chunk 1 is used again: 2 becomes the oldest.
  const auto pin = world.store->PinForAttend(TinyId(1), 0, 64, world.now);
  REQUIRE(pin.ok());
  world.store->Unpin(*pin, world.now);

  REQUIRE(world.Fill(9, 64).ok());
  CHECK(world.Has(1));
  for (uint64_t n = 2; n <= 5; ++n) CHECK_FALSE(world.Has(n));
  for (uint64_t n = 6; n <= 9; ++n) CHECK(world.Has(n));
  CHECK(world.store->counts().evicted_chunks == 4);
  CHECK(world.store->CheckInvariants().ok());
}

TEST_CASE("a store full of what is in use says so and keeps nothing of the publish") {
  TinyWorld world(2, {.high_watermark = 1, .low_watermark = 1});
  REQUIRE(world.Fill(1, 64).ok());
  REQUIRE(world.PublishAll(2, 64, kBob).ok());
  REQUIRE(world.store->Lease(TinyId(1), kAlice, absl::Minutes(1), world.now).ok());
  const StoreCounts before = world.store->counts();
  const auto status = world.PublishAll(3, 64, kCarol);
  CHECK(status.code() == StatusCode::kResourceExhausted);
  CHECK(status.ToString().find("0 of 2 free") != std::string::npos);
  CHECK(world.store->counts() == before);
  CHECK_FALSE(world.store->HoldsAnything(kCarol));

  // Growing an open chunk fails the same way, without half of it.
  CHECK(world.Publish(2, {0, 2, 64, 1}, kBob).code() == StatusCode::kResourceExhausted);
  CHECK(world.store->counts() == before);

  CHECK(world.store->Release(TinyId(1), kAlice, world.now));
  CHECK(world.PublishAll(3, 64, kCarol).ok());
  CHECK_FALSE(world.Has(1));
}

TEST_CASE("one session's open chunks take no more than its share, another's still fit") {
  TinyWorld world(8, {.max_open_pages = 3});
  REQUIRE(world.PublishAll(1, 2 * 64, kAlice).ok());
  REQUIRE(world.PublishAll(2, 1, kAlice).ok());
  const StoreCounts before = world.store->counts();
  for (const auto& refused :
       {world.PublishAll(3, 1, kAlice), world.Publish(1, {0, 2, 2 * 64, 1}, kAlice)}) {
    CHECK(refused.code() == StatusCode::kResourceExhausted);
    CHECK(refused.ToString().find("has 3 pages in open chunks") != std::string::npos);
    CHECK(refused.ToString().find("limit is 3") != std::string::npos);
  }
  CHECK(world.store->counts() == before);
  CHECK(world.Publish(2, {0, 2, 1, 63}, kAlice).ok());  // in a page that it has
  CHECK(world.PublishAll(3, 3 * 64, kBob).ok());

  // What is sealed can be evicted and counts no more.
  REQUIRE(world.Seal(1, 2 * 64).ok());
  CHECK(world.PublishAll(4, 2 * 64, kAlice).ok());
  CHECK(world.store->CheckInvariants().ok());
}

TEST_CASE("pages of a session that ends count for the one that keeps the chunk") {
  TinyWorld world(8, {.max_open_pages = 3});
  REQUIRE(world.PublishAll(1, 2 * 64, kAlice).ok());
  REQUIRE(world.Publish(1, {0, 2, 2 * 64, 1}, kBob).ok());
  world.store->EndSession(kAlice, world.now);
  CHECK(world.store->CheckInvariants().ok());
  CHECK(world.PublishAll(2, 1, kBob).code() == StatusCode::kResourceExhausted);
  REQUIRE(world.Seal(1, 2 * 64 + 1).ok());
  CHECK(world.PublishAll(2, 3 * 64, kBob).ok());
  CHECK(world.store->CheckInvariants().ok());
}

TEST_CASE("a publish that cannot fit evicts nothing in vain") {
  TinyWorld world(4);
  REQUIRE(world.Fill(1, 64).ok());
  REQUIRE(world.PublishAll(2, 2 * 64).ok());
  CHECK(world.PublishAll(3, 3 * 64).code() == StatusCode::kResourceExhausted);
  CHECK(world.Has(1));
}

TEST_CASE("the number of chunks is bounded too") {
  TinyWorld world(10, {.max_chunks = 2});
  REQUIRE(world.Fill(1, 1).ok());
  REQUIRE(world.PublishAll(2, 1).ok());
  REQUIRE(world.PublishAll(3, 1).ok());
  CHECK_FALSE(world.Has(1));
  const auto status = world.PublishAll(4, 1);
  CHECK(status.code() == StatusCode::kResourceExhausted);
  CHECK(status.ToString().find("limit is 2") != std::string::npos);
}

TEST_CASE("an open chunk goes when the last session that publishes it ends") {
  TinyWorld world(4);
  REQUIRE(world.PublishAll(1, 64, kAlice).ok());
  REQUIRE(world.Publish(1, {0, 2, 64, 10}, kBob).ok());
  REQUIRE(world.PublishAll(2, 10, kAlice).ok());
  REQUIRE(world.Fill(3, 10, kAlice).ok());
  world.store->EndSession(kAlice, world.now);
  CHECK(world.Has(1));
  CHECK_FALSE(world.Has(2));
  CHECK(world.Has(3));
  world.store->EndSession(kBob, world.now);
  CHECK_FALSE(world.Has(1));
  CHECK(world.store->counts().discarded_chunks == 2);
  CHECK(world.pages_free() == 3);
  CHECK(world.store->CheckInvariants().ok());
}

TEST_CASE("pages that work in flight reads outlive their chunk") {
  TinyWorld world(4);
  REQUIRE(world.PublishAll(1, 64).ok());
  const auto pin = world.store->PinForAttend(TinyId(1), 0, 64, world.now);
  REQUIRE(pin.ok());
  world.store->EndSession(kAlice, world.now);
  CHECK_FALSE(world.Has(1));
  CHECK(world.pages_free() == 3);
  CHECK(world.store->counts().chunks_dropped == 1);
  // The id is free for another life meanwhile.
  REQUIRE(world.Publish(1, {0, 2, 0, 5}, kBob, /*seed=*/9).ok());
  CHECK(world.store->CheckInvariants().ok());
  world.store->Unpin(*pin, world.now);
  CHECK(world.pages_free() == 3);
  CHECK(world.store->counts().chunks_dropped == 0);
  CHECK(world.store->CheckInvariants().ok());
}

TEST_CASE("a page table in use stays readable while its chunk grows") {
  TinyWorld world(64);
  REQUIRE(world.PublishAll(1, 64).ok());
  const auto pin = world.store->PinForAttend(TinyId(1), 0, 64, world.now);
  REQUIRE(pin.ok());
  const uint32_t page = pin->page_ids[0];
  for (uint32_t t = 64; t < 64 * 60; t += 64) REQUIRE(world.Publish(1, {0, 2, t, 64}).ok());
  CHECK(pin->page_ids[0] == page);
  world.store->Unpin(*pin, world.now);
}

TEST_CASE("a lease keeps a chunk until it is released or expires") {
  TinyWorld world(1, {.high_watermark = 1, .low_watermark = 1, .max_lease = absl::Minutes(1)});
  REQUIRE(world.Fill(1, 64).ok());
  CHECK(world.store->Lease(TinyId(7), kAlice, absl::Minutes(1), world.now).code() ==
        StatusCode::kNotFound);
  REQUIRE(world.store->Lease(TinyId(1), kAlice, absl::Minutes(1), world.now).ok());
  CHECK(world.store->counts().chunks_pinned == 1);
  CHECK(world.PublishAll(2, 1).code() == StatusCode::kResourceExhausted);
  world.now += absl::Seconds(30);
  REQUIRE(world.store->Lease(TinyId(1), kAlice, absl::Minutes(1), world.now).ok());
  CHECK(world.store->Stat(TinyId(1), world.now)->leases == 1);
  world.now += absl::Seconds(45);
  CHECK(world.PublishAll(2, 1).code() == StatusCode::kResourceExhausted);
  world.now += absl::Seconds(30);
  CHECK(world.PublishAll(2, 1).ok());
  CHECK_FALSE(world.Has(1));
  CHECK(world.store->CheckInvariants().ok());
}

TEST_CASE("a lease that would end sooner than asked for is refused, not shortened") {
  TinyWorld world(4, {.max_lease = absl::Minutes(1)});
  REQUIRE(world.Fill(1, 64).ok());
  const auto too_long = world.store->Lease(TinyId(1), kAlice, absl::Seconds(61), world.now);
  CHECK(too_long.code() == StatusCode::kInvalidArgument);
  CHECK(too_long.ToString().find("a lease of 1m1s; the longest is 1m") != std::string::npos);
  CHECK(world.store->counts().chunks_pinned == 0);

  // An open chunk ends with its publishers, whoever else has a lease.
  REQUIRE(world.PublishAll(2, 64, kAlice).ok());
  const auto open = world.store->Lease(TinyId(2), kBob, absl::Seconds(1), world.now);
  CHECK(open.code() == StatusCode::kFailedPrecondition);
  CHECK(open.ToString().find("open and another session's") != std::string::npos);
  CHECK(world.store->Lease(TinyId(2), kAlice, absl::Seconds(1), world.now).ok());
  REQUIRE(world.Seal(2, 64).ok());
  CHECK(world.store->Lease(TinyId(2), kBob, absl::Seconds(1), world.now).ok());
  CHECK(world.store->CheckInvariants().ok());
}

TEST_CASE("leases end with their session, and each session has its own") {
  TinyWorld world(2);
  REQUIRE(world.Fill(1, 64).ok());
  REQUIRE(world.store->Lease(TinyId(1), kAlice, absl::Minutes(1), world.now).ok());
  REQUIRE(world.store->Lease(TinyId(1), kBob, absl::Minutes(1), world.now).ok());
  CHECK_FALSE(world.store->Release(TinyId(1), kCarol, world.now));
  world.store->EndSession(kAlice, world.now);
  CHECK(world.store->counts().chunks_pinned == 1);
  CHECK(world.store->Release(TinyId(1), kBob, world.now));
  CHECK(world.store->counts().chunks_pinned == 0);
  CHECK_FALSE(world.store->HoldsAnything(kBob));
}

}  // namespace
}  // namespace latentd
