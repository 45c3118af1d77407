// Records that change where they lie.
#include <catch2/catch.hpp>

#include <string>
#include <vector>

#include "daemon/store/latent_store.h"
#include "daemon/store/store_test_util.h"
#include "routing/chunk_id.h"

namespace latentd {
namespace {

using absl::StatusCode;

// Flips one bit of what `page` holds for (layer, token).
void Corrupt(TinyWorld& world, uint32_t page, uint32_t layer, uint32_t token) {
  const Layout& layout = world.layout();
  RecordMemory& memory = world.store->arena().memory();
  const RecordRun run{.memory_offset = world.store->arena().page_offset(page) +
                                       layer * layout.layer_bytes() + token * layout.record_bytes(),
                      .host_offset = 0,
                      .bytes = 1};
  std::byte value{};
  REQUIRE(memory.Read({&run, 1}, &value).ok());
  value ^= std::byte{4};
  REQUIRE(memory.Write({&run, 1}, &value).ok());
}

uint32_t FirstPage(TinyWorld& world, uint64_t chunk) {
  const auto pin = world.store->PinForAttend(TinyId(chunk), 0, 1, world.now);
  REQUIRE(pin.ok());
  const uint32_t page = pin->page_ids[0];
  world.store->Unpin(*pin, world.now);
  return page;
}

// Scrubs to the end of the pass, `most_bytes` a step; says what was corrupt.
std::vector<ChunkId> Pass(TinyWorld& world, uint64_t most_bytes) {
  std::vector<ChunkId> corrupt;
  for (int steps = 0; steps < 100'000; ++steps) {
    const auto step = world.store->Scrub(most_bytes, world.now);
    REQUIRE(step.ok());
    CHECK(step->bytes < most_bytes + world.layout().record_bytes());
    if (step->corrupt.has_value()) corrupt.push_back(step->corrupt->id);
    if (step->end_of_pass) return corrupt;
  }
  FAIL("a pass without end");
  return corrupt;
}

TEST_CASE("a pass reads every sealed chunk whole, in steps of any size") {
  for (const uint64_t step : {uint64_t{1}, uint64_t{50}, uint64_t{1000}, uint64_t{1} << 30}) {
    TinyWorld world(16);
    REQUIRE(world.Fill(1, 100).ok());
    REQUIRE(world.PublishAll(2, 70).ok());
    REQUIRE(world.Fill(3, 1).ok());
    CHECK(Pass(world, step).empty());
    CHECK(world.store->counts().scrubbed_bytes == 101 * 2 * world.layout().record_bytes());
    CHECK(Pass(world, step).empty());
    CHECK(world.store->counts().scrubbed_bytes == 2 * 101 * 2 * world.layout().record_bytes());
  }
}

TEST_CASE("an empty store has nothing to scrub") {
  TinyWorld world(1);
  CHECK(Pass(world, 100).empty());
}

TEST_CASE("a chunk with another bit than it was sealed with is found and never read again") {
  TinyWorld world(16);
  for (uint64_t n = 1; n <= 3; ++n) REQUIRE(world.Fill(n, 100).ok());
  Corrupt(world, FirstPage(world, 2), 1, 63);
  CHECK(Pass(world, 200) == std::vector<ChunkId>{TinyId(2)});
  CHECK(world.store->counts().corrupt_chunks == 1);
  CHECK(world.store->counts().chunks_quarantined == 1);
  CHECK(world.pages_free() == 16 - 4);

  const auto attend = world.store->PinForAttend(TinyId(2), 0, 1, world.now).status();
  CHECK(attend.code() == StatusCode::kDataLoss);
  CHECK(std::string(attend.message()).find(ToString(TinyId(2))) != std::string::npos);
  CHECK(world.store->FetchBytes(TinyId(2), {0, 1, 0, 1}).status().code() == StatusCode::kDataLoss);
  CHECK(world.store->Lease(TinyId(2), kAlice, absl::Seconds(1), world.now).code() ==
        StatusCode::kDataLoss);
  CHECK(world.store->PinForAttend(TinyId(1), 0, 1, world.now).ok());
  // Publishers find it missing, those that copy the slot find it as it was.
  CHECK_FALSE(world.Has(2));
  const auto listing = world.store->ListSlot(TinyId(2).slot(), kNoChunk, 10, true, world.now);
  REQUIRE(listing.chunks.size() == 1);
  CHECK(listing.chunks[0].sealed);
  CHECK(listing.chunks[0].tokens == 100);
  CHECK(listing.chunks[0].checksum == TinyChecksum(world.layout(), 100));
  CHECK(world.store->ListSlot(TinyId(2).slot(), kNoChunk, 10, false, world.now).chunks.empty());
}

TEST_CASE("a chunk that is doubted is read before those whose turn it is, which come after it") {
  TinyWorld world(16);
  for (uint64_t n = 1; n <= 3; ++n) REQUIRE(world.Fill(n, 100).ok());
  const uint64_t chunk_bytes = 100 * world.layout().layers * world.layout().record_bytes();
  REQUIRE(world.store->Scrub(1, world.now).ok());  // is at the first
  Corrupt(world, FirstPage(world, 3), 1, 63);
  CHECK(world.store->ScrubSoon(TinyId(3)));
  CHECK(world.store->ScrubSoon(TinyId(3)));
  const auto step = world.store->Scrub(2 * chunk_bytes, world.now);
  REQUIRE(step.ok());
  REQUIRE(step->corrupt.has_value());
  CHECK(step->corrupt->id == TinyId(3));
  CHECK_FALSE(step->end_of_pass);
  CHECK(Pass(world, 200).empty());
  CHECK(world.store->counts().scrubbed_bytes == 3 * chunk_bytes);  // each once

  CHECK_FALSE(world.store->ScrubSoon(TinyId(3)));
  CHECK_FALSE(world.store->ScrubSoon(TinyId(9)));
  REQUIRE(world.PublishAll(4, 70).ok());
  CHECK_FALSE(world.store->ScrubSoon(TinyId(4)));
}

TEST_CASE("a quarantined chunk answers again once it has been sealed anew, as it was") {
  TinyWorld world(16);
  REQUIRE(world.Fill(1, 100).ok());
  Corrupt(world, FirstPage(world, 1), 0, 0);
  REQUIRE(Pass(world, 1 << 20).size() == 1);
  REQUIRE(world.PublishAll(1, 100, kNodeSession).ok());
  CHECK(world.store->PinForAttend(TinyId(1), 0, 1, world.now).status().code() ==
        StatusCode::kDataLoss);
  CHECK(world.store->ListSlot(TinyId(1).slot(), kNoChunk, 10, true, world.now).chunks.size() == 1);
  CHECK(world.store->CheckInvariants().ok());
  REQUIRE(world.Seal(1, 100).ok());
  CHECK(world.store->PinForAttend(TinyId(1), 0, 100, world.now).ok());
  CHECK(world.store->counts().chunks_quarantined == 0);
  CHECK(Pass(world, 1 << 20).empty());
}

TEST_CASE("a quarantined chunk cannot be sealed as another one") {
  TinyWorld world(16);
  REQUIRE(world.Fill(1, 100).ok());
  Corrupt(world, FirstPage(world, 1), 0, 0);
  REQUIRE(Pass(world, 1 << 20).size() == 1);
  REQUIRE(world.PublishAll(1, 50).ok());
  CHECK(world.Seal(1, 50).code() == StatusCode::kAlreadyExists);
}

TEST_CASE("a chunk that was lost elsewhere is quarantined here as it was sealed there") {
  TinyWorld world(16, {.max_chunks = 2});
  const uint64_t checksum = TinyChecksum(world.layout(), 100);
  REQUIRE(world.PublishAll(1, 50, kNodeSession).ok());
  REQUIRE(world.store->MarkLost(TinyId(1), 100, checksum).ok());
  REQUIRE(world.store->MarkLost(TinyId(1), 100, checksum).ok());
  CHECK(world.store->MarkLost(TinyId(1), 50, checksum).code() == StatusCode::kAlreadyExists);
  CHECK(world.store->PinForAttend(TinyId(1), 0, 1, world.now).status().code() ==
        StatusCode::kDataLoss);
  const auto listing = world.store->ListSlot(TinyId(1).slot(), kNoChunk, 10, true, world.now);
  REQUIRE(listing.chunks.size() == 1);
  CHECK(listing.chunks[0].lost);
  CHECK(listing.chunks[0].tokens == 100);
  CHECK(world.store->CheckInvariants().ok());
  REQUIRE(world.Fill(1, 100).ok());
  CHECK(world.store->counts().chunks_quarantined == 0);
  // Here it is whole.
  CHECK(world.store->MarkLost(TinyId(1), 100, checksum).ok());
  CHECK(world.store->MarkLost(TinyId(1), 50, checksum).code() == StatusCode::kAlreadyExists);
  CHECK(world.store->PinForAttend(TinyId(1), 0, 100, world.now).ok());
  CHECK(world.store->MarkLost(TinyId(2), 1, 1).ok());
  CHECK(world.store->MarkLost(TinyId(3), 1, 1).ok());
  CHECK(world.store->MarkLost(TinyId(4), 1, 1).code() == StatusCode::kResourceExhausted);
}

TEST_CASE("a chunk that is replaced half way through is not taken for corrupt") {
  TinyWorld world(4, {.high_watermark = 1, .low_watermark = 1});
  REQUIRE(world.Fill(1, 100).ok());
  REQUIRE(world.store->Scrub(500, world.now).ok());
  CHECK(world.store->DropSlot(TinyId(1).slot(), 1));
  REQUIRE(world.Fill(1, 64).ok());
  CHECK(Pass(world, 500).empty());
  CHECK(Pass(world, 500).empty());
  CHECK(world.store->counts().corrupt_chunks == 0);
}

}  // namespace
}  // namespace latentd
