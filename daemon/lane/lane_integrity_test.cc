// Bytes that change on their way or where they lie, and what is brought from elsewhere to put that
// right.
#include <catch2/catch.hpp>

#include <atomic>
#include <memory>
#include <optional>
#include <vector>

#include "daemon/lane/lane.h"
#include "daemon/lane/lane_device.h"
#include "daemon/lane/lane_test_client.h"
#include "daemon/lane/replica_test_util.h"
#include "transport/errors.h"
#include "transport/record_checksum.h"

namespace latentd {
namespace {

using wire::Code;

constexpr RecordRange kTen{0, 2, 0, 10};

TEST_CASE("records that changed on their way are refused, and the error names them") {
  LaneWorld world;
  TestClient client(world);
  const auto records = TinyRecords(client.layout(), {0, 2, 5, 10});
  const auto publish = [&](uint64_t checksum) {
    return client.Publish(1, {0, 2, 5, 10}, 0, [&](wire::RequestHeader& header) {
      header.flags = wire::kPayloadChecksum;
      header.payload_checksum = checksum;
    });
  };
  const TestReply reply = publish(PayloadChecksum(records) ^ 1);
  CHECK(reply.code() == Code::kDataLoss);
  INFO(reply.text());
  CHECK(reply.text().find("chunk " + ToString(TinyId(1)) + ", layers 0 to 1, tokens 5 to 14") !=
        std::string::npos);
  CHECK(world.stats().corrupt_payloads.Get() == 1);
  CHECK(world.stats().chunks_open.Get() == 0);
  CHECK(publish(PayloadChecksum(records)).status().ok());
}

TEST_CASE("fetched records come with their checksum") {
  LaneWorld world;
  TestClient client(world);
  client.Fill(1, 10);
  const TestReply reply = client.Fetch(1, kTen);
  REQUIRE(reply.status().ok());
  CHECK((reply.reply.header.flags & wire::kReplyChecksum) != 0);
  CHECK(reply.reply.header.payload_checksum == PayloadChecksum(reply.payload));
}

// A lane that scrubs all the time, whose memory the test can reach.
struct ScrubWorld {
  explicit ScrubWorld(absl::Duration pass_every = absl::ZeroDuration()) {
    LaneOptions options = TestOptions();
    options.scrub_bytes_per_s = uint64_t{1} << 30;
    options.scrub_pass_every = pass_every;
    options.replica_sink = &sink;
    LaneDevice device = ValueOrDie(MakeLaneDevice(options));
    device.allocate_records = [this, allocate = device.allocate_records](uint64_t bytes) {
      auto made = allocate(bytes);
      if (made.ok()) memory = made->get();
      return made;
    };
    world = std::make_unique<LaneWorld>(options, device);
  }
  // Flips a bit of the arena, on the lane's thread.
  void Corrupt(uint64_t offset) {
    std::atomic<bool> done = false;
    world->lane->ListChunks("", 0, [&](const ChunkListing&) {
      const RecordRun run{.memory_offset = offset, .host_offset = 0, .bytes = 1};
      std::byte value{};
      (void)memory->Read({&run, 1}, &value);
      value ^= std::byte{2};
      (void)memory->Write({&run, 1}, &value);
      done = true;
    });
    REQUIRE(WaitFor([&] { return done.load(); }));
  }

  HoldingSink sink;
  RecordMemory* memory = nullptr;
  std::unique_ptr<LaneWorld> world;
  const SinkEnd end{sink};
};

absl::Status Await(const std::function<void(Lane::Done)>& call) {
  std::atomic<bool> done = false;
  absl::Status status;
  call([&](absl::Status s) {
    status = std::move(s);
    done = true;
  });
  REQUIRE(WaitFor([&] { return done.load(); }));
  return status;
}

TEST_CASE("a chunk that changes where it lies is found, told of, never answered, and repaired") {
  ScrubWorld scrub;
  Lane& lane = *scrub.world->lane;
  TestClient client(*scrub.world);
  client.Fill(1, 10);
  const TestClient::Query query = {.chunks = {TestClient::Entry(1, 10)}};
  const auto before = client.Attend(query);
  REQUIRE(before.status().ok());
  CHECK(WaitFor([&] { return scrub.world->stats().scrubbed_bytes.Get() > 0; }));
  CHECK(scrub.sink.quarantined().empty());
  scrub.Corrupt(3);
  REQUIRE(WaitFor([&] { return !scrub.sink.quarantined().empty(); }));
  CHECK(scrub.sink.quarantined() == std::vector<ChunkId>{TinyId(1)});
  const TestReply reply = client.Attend(query);
  CHECK(reply.code() == Code::kDataLoss);
  CHECK(reply.text().find(ToString(TinyId(1))) != std::string::npos);
  CHECK(client.Fetch(1, kTen).code() == Code::kDataLoss);
  CHECK(WaitFor([&] { return scrub.world->stats().quarantined_chunks.Get() == 1; }));
  CHECK(scrub.world->stats().corrupt_chunks.Get() == 1);

  const auto records = TinyRecords(client.layout(), kTen);
  const LocalRecords copy = {
      .chunk = TinyId(1), .range = kTen, .records = records, .placed = Epoch{kTestEpoch}};
  CHECK(Await([&](Lane::Done done) { lane.PublishLocal(copy, std::move(done)); }).ok());
  CHECK(client.Attend(query).code() == Code::kDataLoss);
  CHECK(Await([&](Lane::Done done) {
          lane.SealLocal(TinyId(1), 10, TinyChecksum(client.layout(), 10), Epoch{kTestEpoch},
                         std::move(done));
        }).ok());
  const auto after = client.Attend(query);
  CHECK(after.status().ok());
  CHECK(after.payload == before.payload);
}

TEST_CASE("a chunk that somebody doubts is read again without waiting for the next pass") {
  ScrubWorld scrub(absl::Hours(1));
  TestClient client(*scrub.world);
  client.Fill(1, 10);
  const auto& scrubbed = scrub.world->stats().scrubbed_bytes;
  REQUIRE(WaitFor([&] { return scrubbed.Get() >= 20 * client.layout().record_bytes(); }));
  scrub.Corrupt(3);
  CHECK(client.Stat({1}).code() == Code::kOk);
  scrub.world->Settle();
  CHECK(scrub.sink.quarantined().empty());
  CHECK(client.Stat({1}, wire::kDoubted).code() == Code::kOk);
  REQUIRE(WaitFor([&] { return !scrub.sink.quarantined().empty(); }));
  CHECK(client.Attend({.chunks = {TestClient::Entry(1, 10)}}).code() == Code::kDataLoss);
}

TEST_CASE("chunks that come to an empty store are read again without waiting for the next pass") {
  LaneOptions options = TestOptions();
  options.scrub_bytes_per_s = uint64_t{1} << 30;
  options.scrub_pass_every = absl::Hours(1);
  LaneWorld world(options);
  TestClient client(world);
  world.Settle();  // the first pass is over
  client.Fill(1, 10);
  CHECK(WaitFor([&] { return world.stats().scrubbed_bytes.Get() > 0; }));
}

TEST_CASE("a lane that is never idle reads its chunks again all the same") {
  ScrubWorld scrub;
  std::atomic<bool> stop = false;
  std::atomic<int> turns = 0;
  std::function<void()> work = [&] {
    if (stop) return;
    ++turns;
    scrub.world->lane->ListChunks("", 0, [&](const ChunkListing&) { work(); });
  };
  work();
  REQUIRE(WaitFor([&] { return turns > 10; }));
  TestClient client(*scrub.world);
  client.Fill(1, 10);
  CHECK(WaitFor([&] { return scrub.world->stats().scrubbed_bytes.Get() > 0; }));
  scrub.Corrupt(3);
  CHECK(WaitFor([&] { return !scrub.sink.quarantined().empty(); }));
  stop = true;
  scrub.world->Settle();
}

TEST_CASE("a lane that is told not to scrub reads nothing") {
  LaneWorld world;
  TestClient client(world);
  client.Fill(1, 10);
  world.Settle();
  CHECK(world.stats().scrubbed_bytes.Get() == 0);
}

TEST_CASE("copies are taken for slots that are placed as they were made for") {
  LaneWorld world;
  world.lane->SetTable(PlacedTable(kTestEpoch, {{1, {.holders = {kB}, .joining = {kA}}},
                                                {2, {.holders = {kB, kA}}},
                                                {3, {.holders = {kB}}}}));
  TestClient client(world);
  const auto records = TinyRecords(client.layout(), kTen);
  const auto publish = [&](uint64_t chunk, uint64_t placed) {
    return Await([&](Lane::Done done) {
      world.lane->PublishLocal(
          {.chunk = TinyId(chunk), .range = kTen, .records = records, .placed = Epoch{placed}},
          std::move(done));
    });
  };
  const auto seal = [&](uint64_t chunk, uint64_t placed) {
    return Await([&](Lane::Done done) {
      world.lane->SealLocal(TinyId(chunk), 10, TinyChecksum(client.layout(), 10), Epoch{placed},
                            std::move(done));
    });
  };
  CHECK(IsWrongEpoch(publish(1, 2)));
  CHECK(IsWrongEpoch(publish(3, 3)));
  CHECK(IsWrongEpoch(seal(1, 2)));
  CHECK(publish(1, 3).ok());
  CHECK(publish(2, 3).ok());
  CHECK(seal(1, 3).ok());

  const auto stat = [&] {
    std::optional<std::vector<std::optional<ChunkInfo>>> infos;
    std::atomic<bool> done = false;
    world.lane->StatLocal({TinyId(1), TinyId(2), TinyId(3)}, [&](auto got) {
      infos = std::move(got);
      done = true;
    });
    REQUIRE(WaitFor([&] { return done.load(); }));
    return *infos;
  };
  const auto infos = stat();
  REQUIRE(infos.size() == 3);
  CHECK(infos[0]->sealed);
  CHECK_FALSE(infos[1]->sealed);
  CHECK_FALSE(infos[2].has_value());

  std::atomic<bool> listed = false;
  ChunkListing listing;
  world.lane->ListSlot(Slot{2}, {}, 10, [&](ChunkListing got) {
    listing = std::move(got);
    listed = true;
  });
  REQUIRE(WaitFor([&] { return listed.load(); }));
  REQUIRE(listing.chunks.size() == 1);
  CHECK(listing.chunks[0].layer_tokens == std::vector<uint32_t>{10, 10});

  const auto drop = [&](uint64_t chunk) {
    return Await(
        [&](Lane::Done done) { world.lane->DropLocal(TinyId(chunk), Epoch{3}, std::move(done)); });
  };
  CHECK(drop(1).ok());
  CHECK(drop(2).ok());
  CHECK(stat()[0].has_value());
  CHECK_FALSE(stat()[1].has_value());

  const auto discard = [&](uint64_t chunk, uint64_t placed) {
    return Await([&](Lane::Done done) {
      world.lane->DiscardLocal(TinyId(chunk), Epoch{placed}, std::move(done));
    });
  };
  // It answers for slot 2.
  CHECK(publish(2, 3).ok());
  CHECK(seal(2, 3).ok());
  CHECK(absl::IsFailedPrecondition(discard(2, 3)));
  CHECK(stat()[1].has_value());
  CHECK(IsWrongEpoch(discard(1, 2)));
  CHECK(stat()[0].has_value());
  CHECK(discard(1, 3).ok());
  CHECK_FALSE(stat()[0].has_value());
}

TEST_CASE("a chunk that is lost wherever it was is DATA_LOSS here too, and listed as lost") {
  LaneWorld world;
  world.lane->SetTable(PlacedTable(kTestEpoch, {{2, {.holders = {kB, kA}}}}));
  TestClient client(world);
  const uint64_t checksum = TinyChecksum(client.layout(), 10);
  const auto mark = [&](uint64_t placed) {
    return Await([&](Lane::Done done) {
      world.lane->MarkLostLocal(TinyId(2), 10, checksum, Epoch{placed}, std::move(done));
    });
  };
  CHECK(IsWrongEpoch(mark(2)));
  CHECK(client.Fetch(2, kTen).code() == Code::kNotFound);
  CHECK(mark(3).ok());
  CHECK(client.Fetch(2, kTen).code() == Code::kDataLoss);
  const TestReply reply = client.List(2, 3);
  REQUIRE(reply.status().ok());
  const auto& list = std::get<ListReply>(reply.reply.body);
  REQUIRE(list.entries.size() == 1);
  CHECK(list.entries[0].present == 0);
  CHECK(list.entries[0].sealed == 1);
  CHECK(list.entries[0].tokens == 10);
  CHECK(list.entries[0].checksum == checksum);
}

TEST_CASE("a lane that has stopped says so to those who copy") {
  LaneWorld world;
  REQUIRE(world.lane->Stop(absl::InfiniteFuture()).ok());
  const auto records = TinyRecords(world.lane->options().layout, kTen);
  CHECK(absl::IsUnavailable(Await([&](Lane::Done done) {
    world.lane->PublishLocal({.chunk = TinyId(1), .range = kTen, .records = records},
                             std::move(done));
  })));
}

}  // namespace
}  // namespace latentd
