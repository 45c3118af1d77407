// Chunks of other nodes' sessions, and slots that come and go.
#include <catch2/catch.hpp>

#include <string>
#include <vector>

#include "daemon/store/latent_store.h"
#include "daemon/store/store_test_util.h"
#include "routing/chunk_id.h"

namespace latentd {
namespace {

constexpr ChunkId InSlot(uint64_t slot, uint64_t n) { return {.hi = slot << 48, .lo = n}; }

absl::Status PublishIn(TinyWorld& world, const ChunkId& id, const RecordRange& range,
                       const SessionToken& session) {
  return world.store->Publish(id, range, TinyRecords(world.layout(), range), session, world.now);
}

TEST_CASE("what came from other nodes is bounded by no session's share and ends with none") {
  TinyWorld world(8, {.max_open_pages = 1});
  REQUIRE(world.PublishAll(1, 3 * 64, kNodeSession).ok());
  world.store->EndSession(kAlice, world.now);
  CHECK(world.Has(1));
  CHECK(world.store->DropOpen(TinyId(1)));
  CHECK_FALSE(world.Has(1));
  CHECK_FALSE(world.store->DropOpen(TinyId(1)));
  CHECK(world.store->counts().released_chunks == 1);
  CHECK(world.store->CheckInvariants().ok());
}

TEST_CASE("a session that goes on publishing what was the node's takes it over") {
  TinyWorld world(8);
  REQUIRE(world.PublishAll(1, 64, kNodeSession).ok());
  REQUIRE(world.Publish(1, {0, 2, 64, 1}, kAlice).ok());
  CHECK(world.store->CheckInvariants().ok());
  CHECK_FALSE(world.store->HoldsAnything(kNodeSession));
  CHECK(world.store->EndSession(kAlice, world.now) == std::vector<ChunkId>{TinyId(1)});
  CHECK_FALSE(world.Has(1));
}

TEST_CASE("ending a session says which open chunks went with it") {
  TinyWorld world(8);
  REQUIRE(world.PublishAll(1, 64, kAlice).ok());
  REQUIRE(world.PublishAll(2, 64, kAlice).ok());
  REQUIRE(world.Publish(2, {0, 2, 0, 1}, kBob).ok());
  REQUIRE(world.Fill(3, 64, kAlice).ok());
  CHECK(world.store->EndSession(kAlice, world.now) == std::vector<ChunkId>{TinyId(1)});
}

TEST_CASE("the open chunks of a slot can be made the node's") {
  TinyWorld world(8);
  REQUIRE(world.PublishAll(1, 64, kAlice).ok());
  REQUIRE(world.Publish(1, {0, 2, 64, 1}, kBob).ok());
  REQUIRE(world.PublishAll(2, 64, kAlice).ok());
  world.store->AdoptOpenOfSlot(TinyId(1).slot());
  CHECK(world.store->CheckInvariants().ok());
  world.store->EndSession(kAlice, world.now);
  world.store->EndSession(kBob, world.now);
  CHECK(world.Has(1));
  CHECK_FALSE(world.Has(2));
}

TEST_CASE("orphans are the node's alone and long unused") {
  TinyWorld world(8);
  REQUIRE(world.PublishAll(1, 64, kNodeSession).ok());
  const absl::Time then = world.now;
  REQUIRE(world.PublishAll(2, 64, kNodeSession).ok());
  REQUIRE(world.PublishAll(3, 64, kAlice).ok());
  CHECK(world.store->Orphans(then) == std::vector<ChunkId>{TinyId(1)});
  CHECK(world.store->Orphans(then - absl::Seconds(1)).empty());
}

TEST_CASE("a slot's chunks are listed in order, a part at a time") {
  TinyWorld world(16);
  for (const uint64_t n : {3, 1, 2}) {
    REQUIRE(PublishIn(world, InSlot(5, n), {0, 2, 0, 10}, kAlice).ok());
  }
  REQUIRE(PublishIn(world, InSlot(5, 3), {0, 1, 10, 7}, kAlice).ok());
  REQUIRE(PublishIn(world, InSlot(4, 9), {0, 2, 0, 1}, kAlice).ok());
  REQUIRE(PublishIn(world, InSlot(6, 9), {0, 2, 0, 1}, kAlice).ok());
  const auto list = [&](const ChunkId& after, uint32_t limit) {
    return world.store->ListSlot(Slot{5}, after, limit, false, world.now);
  };
  const auto first = list(kNoChunk, 2);
  REQUIRE(first.chunks.size() == 2);
  CHECK(first.chunks[0].id == InSlot(5, 1));
  CHECK(first.more);
  const auto rest = list(first.chunks[1].id, 2);
  REQUIRE(rest.chunks.size() == 1);
  CHECK(rest.chunks[0].id == InSlot(5, 3));
  CHECK(rest.chunks[0].tokens == 10);
  CHECK(rest.chunks[0].layer_tokens == std::vector<uint32_t>{17, 10});
  CHECK_FALSE(rest.more);
  CHECK(list(InSlot(5, 3), 2).chunks.empty());
  CHECK(world.store->ListSlot(Slot{7}, kNoChunk, 2, false, world.now).chunks.empty());
}

TEST_CASE("a slot is dropped a part at a time, but for what has leases") {
  TinyWorld world(16);
  for (uint64_t n = 1; n <= 4; ++n) {
    REQUIRE(PublishIn(world, InSlot(5, n), {0, 2, 0, 10}, kAlice).ok());
  }
  REQUIRE(PublishIn(world, InSlot(6, 1), {0, 2, 0, 10}, kAlice).ok());
  REQUIRE(world.store->Lease(InSlot(5, 2), kAlice, absl::Minutes(1), world.now).ok());
  CHECK_FALSE(world.store->DropSlot(Slot{5}, 1));
  CHECK(world.store->counts().chunks_open == 4);
  CHECK_FALSE(world.store->DropSlot(Slot{5}, 100));
  CHECK(world.store->counts().chunks_open == 2);
  CHECK(world.store->Contains(InSlot(5, 2)));
  world.store->Release(InSlot(5, 2), kAlice, world.now);
  CHECK(world.store->DropSlot(Slot{5}, 100));
  CHECK_FALSE(world.store->Contains(InSlot(5, 2)));
  CHECK(world.store->Contains(InSlot(6, 1)));
  CHECK(world.store->counts().released_chunks == 4);
  CHECK(world.store->CheckInvariants().ok());
}

TEST_CASE("a chunk that is being read outlives its slot until it has been read") {
  TinyWorld world(16);
  REQUIRE(world.Fill(1, 10).ok());
  const auto pin = world.store->PinForAttend(TinyId(1), 0, 10, world.now);
  REQUIRE(pin.ok());
  CHECK(world.store->DropSlot(TinyId(1).slot(), 100));
  CHECK(world.pages_free() == 15);
  world.store->Unpin(*pin, world.now);
  CHECK(world.pages_free() == 16);
}

TEST_CASE("what is here can be discarded, sealed, leased or quarantined as it may be") {
  TinyWorld world(16);
  REQUIRE(world.Fill(1, 10).ok());
  REQUIRE(world.store->Lease(TinyId(1), kAlice, absl::Minutes(1), world.now).ok());
  REQUIRE(world.PublishAll(2, 10).ok());
  REQUIRE(world.store->MarkLost(TinyId(3), 10, 7).ok());
  for (const uint64_t n : {1, 2, 3}) {
    CHECK(world.store->Discard(TinyId(n)));
    CHECK_FALSE(world.store->Discard(TinyId(n)));
    CHECK_FALSE(world.Has(n));
  }
  CHECK(world.pages_free() == 16);
  CHECK(world.store->counts().chunks_quarantined == 0);
  CHECK(world.store->CheckInvariants().ok());
}

TEST_CASE("only the open chunks of a slot that begins anew are dropped") {
  TinyWorld world(16);
  REQUIRE(PublishIn(world, InSlot(1, 7), {0, 2, 0, 10}, kNodeSession).ok());
  REQUIRE(world.Fill(1, 10).ok());
  world.store->DropOpenOfSlot(Slot{1});
  CHECK_FALSE(world.store->Contains(InSlot(1, 7)));
  CHECK(world.Has(1));
}

}  // namespace
}  // namespace latentd
