// Clients that die, freeze or are closed in the middle: the lane goes on, and what they held comes
// back.
#include <catch2/catch.hpp>

#include <atomic>
#include <memory>
#include <utility>
#include <vector>

#include "daemon/lane/lane.h"
#include "daemon/lane/lane_test_client.h"

namespace latentd {
namespace {

using Query = TestClient::Query;

LaneOptions WideOptions() {
  LaneOptions options = TestOptions();
  options.layout = {.model = "wide", .layers = 1, .latent_width = 512, .rope_width = 64};
  options.cache_bytes = 256 * options.layout.page_bytes();
  return options;
}

LaneOptions ImpatientOptions() {
  LaneOptions options = WideOptions();
  options.ping_after = absl::Milliseconds(50);
  options.dead_after = absl::Milliseconds(500);
  return options;
}

const Query kHeavy = {
    .scale = 0.01f, .heads = 64, .tokens = 8, .chunks = {TestClient::Entry(1, 64 * 8)}};

// What the store has when nobody holds anything but chunk 1.
struct Baseline {
  explicit Baseline(LaneWorld& world) : world(world) {
    world.Settle();
    pages_free = world.stats().pages_free.Get();
  }
  bool Restored() const {
    return world.Quiet() && world.stats().pages_free.Get() == pages_free &&
           world.stats().chunks_open.Get() == 0 && world.stats().chunks_pinned.Get() == 0;
  }
  LaneWorld& world;
  uint64_t pages_free = 0;
};

TEST_CASE("a client killed in the middle of publishing leaves nothing behind") {
  LaneWorld world(WideOptions());
  TestClient keeper(world);
  keeper.Fill(1, 100);
  const Baseline baseline(world);
  auto client = std::make_unique<TestClient>(world);
  const RecordRange range{0, 1, 0, 600};
  REQUIRE(client->Publish(2, range).status().ok());
  const auto records = TinyRecords(client->layout(), range);
  for (uint64_t n = 3; n < 10; ++n) client->SendPublish(n, range, records);
  for (int i = 0; i < 20; ++i) client->Progress();
  client->Die();
  CHECK(keeper.Until([&] { return world.lost == 1; }));
  CHECK(keeper.Until([&] { return baseline.Restored(); }));
  CHECK(world.stats().discarded_chunks.Get() >= 1);
  CHECK(world.stats().peer_failures.Get() == 1);
  CHECK(keeper.Attend({.chunks = {TestClient::Entry(1, 100)}}).status().ok());
}

TEST_CASE("a client killed in the middle of attending leaves nothing behind") {
  LaneWorld world(WideOptions());
  TestClient keeper(world);
  keeper.Fill(1, 64 * 8);
  const Baseline baseline(world);
  auto client = std::make_unique<TestClient>(world);
  REQUIRE(client->Pin({1}, 60'000).status().ok());
  for (int i = 0; i < 30; ++i) client->SendAttend(kHeavy);
  REQUIRE(client->Until([&] { return world.stats().requests_in_flight.Get() > 2; }));
  client->Die();
  CHECK(keeper.Until([&] { return world.lost == 1; }));
  CHECK(keeper.Until([&] { return baseline.Restored(); }));
  CHECK(keeper.Attend(kHeavy).status().ok());
}

TEST_CASE("a session that is closed in the middle of its work is dropped whole") {
  LaneWorld world(WideOptions());
  TestClient keeper(world);
  keeper.Fill(1, 64 * 8);
  const Baseline baseline(world);
  TestClient client(world);
  REQUIRE(client.Publish(2, 600).status().ok());
  REQUIRE(client.Pin({1, 2}, 60'000).status().ok());
  for (int i = 0; i < 30; ++i) client.SendAttend(kHeavy);
  REQUIRE(client.Until([&] { return world.stats().requests_in_flight.Get() > 2; }));
  world.lane->RemoveSession(client.token(), "closed by the test");
  CHECK(client.Until([&] { return baseline.Restored(); }));
  CHECK(world.lost == 0);
  CHECK(keeper.Attend(kHeavy).status().ok());
}

TEST_CASE("an open chunk that is being attended may lose its publisher") {
  LaneWorld world(WideOptions());
  TestClient keeper(world);
  const Baseline baseline(world);
  TestClient publisher(world);
  REQUIRE(publisher.Publish(1, 64 * 8).status().ok());
  std::vector<uint64_t> ids;
  for (int i = 0; i < 16; ++i) ids.push_back(keeper.SendAttend(kHeavy));
  REQUIRE(keeper.Until([&] { return world.stats().requests_in_flight.Get() > 2; }));
  world.lane->RemoveSession(publisher.token(), "closed by the test");
  for (const uint64_t id : ids) {
    const auto code = keeper.Take(id).code();
    CHECK((code == wire::Code::kOk || code == wire::Code::kNotFound));
  }
  CHECK(keeper.Until([&] { return baseline.Restored(); }));
}

TEST_CASE("a silent client that is owed nothing keeps its connection and what it holds") {
  const std::string transport = GENERATE("tcp", "shm");
  LaneWorld world(ImpatientOptions(), transport);
  TestClient keeper(world);
  keeper.Fill(1, 64 * 8);
  const Baseline baseline(world);
  TestClient client(world);
  REQUIRE(client.Publish(2, 100).status().ok());
  REQUIRE(client.Pin({1}, 600'000).status().ok());
  // From here on nobody turns the client's worker.
  const absl::Time until = absl::Now() + 4 * ImpatientOptions().dead_after;
  keeper.Until([&] { return absl::Now() > until; });
  CHECK(client.Publish(2, {0, 1, 100, 50}).status().ok());
  CHECK(world.stats().chunks_pinned.Get() == 1);
  CHECK(client.Release({1}).status().ok());
  CHECK(client.pings == 0);
  CHECK(world.lost == 0);
  CHECK(world.stats().peer_timeouts.Get() == 0);
  // Its renewals stop: the process ends the session.
  world.lane->RemoveSession(client.token(), "not renewed");
  CHECK(keeper.Until([&] { return baseline.Restored(); }));
}

TEST_CASE("a client frozen with answers under way gives back their memory and nothing else") {
  const std::string transport = GENERATE("tcp", "shm");
  LaneWorld world(ImpatientOptions(), transport);
  TestClient keeper(world);
  keeper.Fill(1, 64 * 8);
  TestClient client(world);
  REQUIRE(client.Publish(2, 100).status().ok());
  REQUIRE(client.Pin({1}, 600'000).status().ok());
  for (int i = 0; i < 12; ++i) client.SendAttend(kHeavy);
  REQUIRE(client.Until([&] { return world.stats().requests_in_flight.Get() >= 4; }));
  const absl::Time frozen = absl::Now();
  CHECK(keeper.Until([&] { return world.stats().peer_timeouts.Get() == 1; }));
  CHECK(absl::Now() - frozen < absl::Seconds(5));
  CHECK(keeper.Until([&] { return world.Quiet(); }));
  CHECK(keeper.Attend(kHeavy).status().ok());
  // It thaws: the same session, with all it held.
  auto before = client.Reconnect();
  before.reset();
  CHECK(client.Attend(kHeavy).status().ok());
  CHECK(client.Publish(2, {0, 1, 100, 50}).status().ok());
  CHECK(client.Release({1}).status().ok());
  CHECK(world.lost == 0);
  CHECK(world.stats().peer_failures.Get() == 0);
}

TEST_CASE("a client frozen with a payload half way does not keep its memory") {
  const std::string transport = GENERATE("tcp", "shm");
  LaneWorld world(ImpatientOptions(), transport);
  TestClient keeper(world);
  keeper.Fill(1, 100);
  const Baseline baseline(world);
  TestClient client(world);
  const RecordRange range{0, 1, 0, 64 * 64};
  const auto records = TinyRecords(client.layout(), range);
  for (uint64_t n = 2; n < 5; ++n) client.SendPublish(n, range, records);
  REQUIRE(client.Until([&] { return world.stats().requests[2].Get() >= 2; }));
  CHECK(keeper.Until([&] { return world.stats().peer_timeouts.Get() == 1; }));
  CHECK(keeper.Until([&] { return baseline.Restored(); }));
  CHECK(keeper.Ping().status().ok());
  CHECK(world.lost == 0);
}

TEST_CASE("a client that is slow to take its answers but answers PINGs is waited for") {
  LaneWorld world(ImpatientOptions());
  TestClient client(world);
  client.Fill(1, 64 * 8);
  client.takes_answers = false;
  client.SendAttend(kHeavy);
  REQUIRE(client.Until([&] { return client.pings >= 12; }));
  CHECK(world.stats().requests_in_flight.Get() == 1);
  CHECK(world.stats().peer_timeouts.Get() == 0);
  CHECK(client.failure.ok());
}

TEST_CASE("a client that is too busy with its answers to answer PINGs is alive") {
  LaneOptions options = ImpatientOptions();
  options.dead_after = absl::Seconds(3);
  LaneWorld world(options);
  TestClient client(world);
  client.Fill(1, 64 * 8);
  client.takes_answers = false;
  constexpr int kAnswers = 8;
  for (int i = 0; i < kAnswers; ++i) client.SendAttend(kHeavy);
  REQUIRE(client.Until([&] { return client.left() == kAnswers; }));
  const int pings = client.pings;
  client.answers_pings = false;
  for (int i = 0; i < kAnswers; ++i) {
    const absl::Time until = absl::Now() + options.dead_after / 5;
    client.Until([&] { return absl::Now() > until; });
    client.TakeLeft();
  }
  CHECK(client.pings > pings);
  CHECK(world.stats().peer_timeouts.Get() == 0);
  CHECK(client.failure.ok());
}

TEST_CASE("two sessions that share a connection each answer for themselves") {
  LaneWorld world(ImpatientOptions());
  TestClient client(world);
  client.Fill(1, 64 * 8);
  const SessionToken second = {.hi = 1, .lo = 100};
  world.lane->AddSession({.token = second, .worker_address = client.worker().address()}, [] {});
  world.Settle();
  wire::RequestHeader header = client.Header();
  header.token_hi = second.hi;
  header.token_lo = second.lo;
  MessageBytes hello;
  BuildHello(header, &hello);
  REQUIRE(client.Take(client.Send(header, hello)).status().ok());

  client.takes_answers = false;
  client.SendAttend(kHeavy);
  CHECK(client.Until([&] { return client.pings >= 12; }));
  CHECK(world.stats().peer_timeouts.Get() == 0);
  // The one that goes takes nothing from the other.
  world.lane->RemoveSession(second, "closed by the test");
  world.Settle();
  CHECK(client.Ping().status().ok());
  CHECK(client.Until([&] { return world.stats().endpoints.Get() == 1; }));
}

TEST_CASE("a client that comes back with another connection is answered there, and stays itself") {
  const std::string transport = GENERATE("tcp", "shm");
  LaneWorld world(WideOptions(), transport);
  TestClient client(world);
  client.Fill(1, 64 * 8);
  REQUIRE(client.Pin({1}, 60'000).status().ok());
  CHECK(client.Hello().status().ok());  // twice from one connection changes nothing
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 12; ++i) client.SendAttend(kHeavy);
    auto before = client.Reconnect();
    before.reset();
    // What was asked through the old connection is over with it.
    CHECK(client.Until([&] { return world.Quiet(); }));
    CHECK(client.Attend(kHeavy).status().ok());
    CHECK(client.Ping().status().ok());
  }
  CHECK(world.lost == 0);
  CHECK(world.stats().peer_failures.Get() == 0);
  CHECK(world.stats().chunks_pinned.Get() == 1);
  CHECK(world.stats().endpoints.Get() == 1);
}

TEST_CASE("a stopping lane finishes what is in flight") {
  LaneWorld world(WideOptions());
  TestClient client(world);
  client.Fill(1, 64 * 8);
  std::vector<uint64_t> ids;
  for (int i = 0; i < 4; ++i) ids.push_back(client.SendAttend(kHeavy));
  REQUIRE(client.Until([&] { return world.stats().requests[4].Get() == 4; }));
  absl::Status stopped;
  std::atomic<bool> done = false;
  std::thread stopper([&] {
    stopped = world.lane->Stop(absl::Now() + kTestPatience);
    done = true;
  });
  for (const uint64_t id : ids) CHECK(client.Take(id).status().ok());
  CHECK(client.Until([&] { return done.load(); }));
  stopper.join();
  CHECK(stopped.ok());
  CHECK(world.lane->last_turn() == absl::InfiniteFuture());
  CHECK(world.Quiet());
  // Nobody waits for a lane that is gone.
  std::atomic<int> answered = 0;
  world.lane->AddSession({}, [&] { ++answered; });
  world.lane->ListChunks("", 1, [&](ChunkListing) { ++answered; });
  CHECK(answered == 2);
}

// A device that computes and stores until it is told to fail.
class FailingBackend : public Backend {
 public:
  FailingBackend(std::unique_ptr<Backend> real, const std::atomic<bool>* failed)
      : real_(std::move(real)), failed_(failed) {}
  std::string Describe() const override { return "failing"; }
  void Submit(uint64_t id, std::span<const Problem> problems) override {
    real_->Submit(id, problems);
  }
  bool Poll(std::vector<BatchResult>& done) override {
    const size_t before = done.size();
    const bool any = real_->Poll(done);
    for (size_t i = before; *failed_ && i < done.size(); ++i) {
      for (absl::Status& status : done[i].statuses) status = absl::InternalError("CUDA error 719");
    }
    return any;
  }
  int in_flight() const override { return real_->in_flight(); }
  int max_in_flight() const override { return real_->max_in_flight(); }

 private:
  std::unique_ptr<Backend> real_;
  const std::atomic<bool>* failed_;
};

TEST_CASE("a lane whose device failed says so, answers nothing from it, and lives") {
  std::atomic<bool> failed = false;
  const LaneOptions options = WideOptions();
  LaneDevice device = ValueOrDie(MakeLaneDevice(options));
  device.make_backend = [&failed, make = device.make_backend](
                            const CacheView& cache,
                            uint32_t pages) -> absl::StatusOr<std::unique_ptr<Backend>> {
    return std::make_unique<FailingBackend>(ValueOrDie(make(cache, pages)), &failed);
  };
  LaneWorld world(options, device);
  TestClient client(world);
  client.Fill(1, 64 * 8);
  REQUIRE(client.Attend(kHeavy).status().ok());

  failed = true;
  const absl::Status first = client.Attend(kHeavy).status();
  CHECK(absl::IsUnavailable(first));
  CHECK(first.ToString().find("CUDA error 719") != std::string::npos);
  CHECK(world.devices_lost == 1);
  failed = false;  // a device that is lost does not come back
  CHECK(absl::IsUnavailable(client.Attend(kHeavy).status()));
  CHECK(absl::IsUnavailable(client.Publish(2, {0, 1, 0, 1}).status()));
  CHECK(absl::IsUnavailable(client.Fetch(1, {0, 1, 0, 1}).status()));
  CHECK(client.Ping().status().ok());
  CHECK(world.devices_lost == 1);
  CHECK(world.Quiet());
}

TEST_CASE("a stopping lane that may not wait cuts off, says how much, and still answers") {
  LaneWorld world(WideOptions());
  TestClient client(world);
  client.Fill(1, 64 * 128);
  // Much to compute and little to send: what is cut off is still in the queue.
  const Query slow = {.scale = 0.01f,
                      .heads = 16,
                      .tokens = 4,
                      .chunks = {TestClient::Entry(1, 64 * 128)},
                      .flags = 0};
  std::vector<uint64_t> ids;
  for (int i = 0; i < 30; ++i) ids.push_back(client.SendAttend(slow));
  REQUIRE(client.Until([&] { return world.stats().requests[4].Get() == 30; }));
  absl::Status stopped;
  std::atomic<bool> done = false;
  std::thread stopper([&] {
    stopped = world.lane->Stop(absl::Now());
    done = true;
  });
  CHECK(client.Until([&] { return done.load(); }));
  stopper.join();
  CHECK(stopped.code() == absl::StatusCode::kDeadlineExceeded);
  CHECK(stopped.ToString().find("cut off") != std::string::npos);
  int unavailable = 0;
  for (const uint64_t id : ids) {
    REQUIRE(client.Has(id));
    unavailable += client.Take(id).code() == wire::Code::kUnavailable;
  }
  CHECK(unavailable > 0);
}

}  // namespace
}  // namespace latentd
