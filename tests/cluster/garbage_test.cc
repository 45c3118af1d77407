// Random and spoilt active messages over real UCX to a real daemon: it stays up, answers good
// requests in between, counts what was malformed, and loses nothing. The seed of each round is
// printed when it fails; LATENTD_TEST_SEED sets another.
#include <catch2/catch.hpp>
#include <cstdlib>
#include <cstring>

#include "tests/cluster/cluster.h"
#include "tests/cluster/eventually.h"
#include "tests/cluster/raw_calls.h"
#include "transport/wire_corpus.h"

namespace latentd::testing {
namespace {

constexpr uint32_t kTokens = 70;
constexpr uint32_t kHeads = 2;

uint64_t FirstSeed() {
  const char* seed = std::getenv("LATENTD_TEST_SEED");
  return seed != nullptr ? std::strtoull(seed, nullptr, 10) : 20261124;
}

using Bytes = std::vector<std::byte>;

class Garbage {
 public:
  Garbage(RawRequester& requester, ChunkId chunk, uint64_t seed)
      : requester_(requester), chunk_(chunk), random_(seed) {}

  // Sends one message that is wrong in some way, or right by chance.
  void SendOne() {
    MessageBytes good = SomeRequest();
    Bytes message(good.begin(), good.end());
    Bytes payload(payload_bytes_);
    switch (Below(6)) {
      case 0:  // noise
        message = Noise(Below(600));
        payload = Noise(Below(3) == 0 ? Below(40'000) : Below(200));
        break;
      case 1:  // a few bits of the header or what follows it
        for (uint64_t n = 1 + Below(4); n > 0; --n) {
          message[Below(message.size())] ^= std::byte{1} << static_cast<int>(Below(8));
        }
        break;
      case 2:  // cut short
        message.resize(Below(message.size()));
        break;
      case 3: {  // one field of the header at an edge of its range
        const uint64_t at = Below(sizeof(wire::RequestHeader) / 4) * 4;
        const uint32_t value = kEdges[Below(std::size(kEdges))];
        std::memcpy(message.data() + at, &value, sizeof(value));
        break;
      }
      case 4: {  // one field of the body at an edge of its range
        if (message.size() < sizeof(wire::RequestHeader) + 8) break;
        const uint64_t words = (message.size() - sizeof(wire::RequestHeader)) / 4;
        const uint64_t at = sizeof(wire::RequestHeader) + Below(words) * 4;
        const uint32_t value = kEdges[Below(std::size(kEdges))];
        std::memcpy(message.data() + at, &value, sizeof(value));
        break;
      }
      case 5:  // a payload of another size
        payload.resize(Below(20'000));
        break;
    }
    requester_.Post(message, payload);
  }

 private:
  static constexpr uint32_t kEdges[] = {0,          1,          2,     0x7fffffff,
                                        0x80000000, 0xffffffff, 65536, 1 << 24};

  uint64_t Below(uint64_t bound) { return bound == 0 ? 0 : random_() % bound; }

  Bytes Noise(uint64_t bytes) {
    Bytes noise(bytes);
    for (std::byte& byte : noise) byte = static_cast<std::byte>(random_());
    return noise;
  }

  MessageBytes SomeRequest() {
    wire::RequestHeader header = requester_.Header();
    const wire::RangeBody range{.chunk_hi = 0x9999'0000'0000'0000,
                                .chunk_lo = Below(4),
                                .layers = 1,
                                .first_token = static_cast<uint32_t>(Below(64)),
                                .tokens = 1};
    const wire::IdEntry id{.chunk_hi = chunk_.hi, .chunk_lo = chunk_.lo};
    const wire::GroupEntry group{.tokens = 1, .chunks = 1, .causal = 1};
    const wire::ChunkEntry chunk{
        .chunk_hi = chunk_.hi, .chunk_lo = chunk_.lo, .visible_tokens = kTokens};
    MessageBytes message;
    payload_bytes_ = 0;
    switch (Below(8)) {
      case 0:
        payload_bytes_ = header.payload_bytes = 1152;
        BuildPublish(header, range, &message);
        break;
      case 1:
        BuildSeal(header, {.chunk_hi = range.chunk_hi, .chunk_lo = range.chunk_lo, .tokens = 1},
                  &message);
        break;
      case 2:
      case 3:
        payload_bytes_ = header.payload_bytes = uint64_t{kHeads} * 1152;
        BuildAttend(header, {.scale = 0.1f, .heads = kHeads, .tokens = 1}, {&group, 1}, {&chunk, 1},
                    &message);
        break;
      case 4:
        BuildFetch(header,
                   {.chunk_hi = chunk_.hi, .chunk_lo = chunk_.lo, .layers = 1, .tokens = kTokens},
                   &message);
        break;
      case 5:
        BuildPin(header, 1000, {&id, 1}, &message);
        break;
      case 6:
        BuildStat(header, {&id, 1}, &message);
        break;
      case 7:
        BuildEcho(header, Below(5000), &message);
        break;
    }
    return message;
  }

  RawRequester& requester_;
  const ChunkId chunk_;
  std::mt19937_64 random_;
  uint64_t payload_bytes_ = 0;
};

// Waits until the daemon has seen to everything that was sent. A spoilt token makes a stranger of
// us, who is not answered any more: then we come back as somebody new.
void Settle(RawRequester& bad) {
  bad.Flush(absl::Seconds(5));
  const bool answered = Ping(bad, absl::Seconds(1)).ok();
  if (!answered || bad.refused() || !bad.connection().ok()) REQUIRE(bad.Reconnect().ok());
}

double SumOf(const std::map<std::string, double>& metrics, const std::string& part) {
  double sum = 0;
  for (const auto& [name, value] : metrics) {
    if (name.find(part) != std::string::npos) sum += value;
  }
  return sum;
}

// One daemon with a sealed chunk and a good requester that is asked between rounds.
struct World {
  Cluster cluster{{.liveness = kPatientLiveness, .metrics = true}};
  RawRequester good{cluster.endpoint()};
  std::mt19937_64 random{5};
  ChunkData chunk =
      RandomChunk({0x1111'0000'0000'0000, 1}, kTokens, 2, RecordFormat::kBf16, random);
  std::vector<Bf16> rows = RandomRows(kHeads, Geometry{}, random);
  Partials expected;

  World() {
    REQUIRE(Publish(good, chunk, WholeOf(chunk))->text() == "");
    REQUIRE(Seal(good, chunk)->text() == "");
    const ExpectedPart part{&chunk, kTokens};
    expected = Expect(rows, 1, kHeads, 0, 0.05f, false, {&part, 1});
  }

  void CheckGoodAnswer() {
    const Partials got = PartialsOf(
        Attend(good, {.heads = kHeads, .tokens = 1, .parts = {{chunk.id, kTokens}}, .rows = rows}),
        kHeads, 512);
    CHECK(Compare(got.out, got.lse, expected.out, expected.lse, 512).Within(kOutBound, kLseBound));
  }
};

TEST_CASE("a daemon lives through garbage and serves others meanwhile") {
  World world;
  Node& node = world.cluster.node(0);
  const Accounting before = node.Account();
  const double malformed_before = SumOf(node.Metrics(), "malformed");
  const ProcessUse use_before = node.process().Use();

  constexpr int kRounds = 12;
  constexpr int kMessages = 250;
  for (int round = 0; round < kRounds; ++round) {
    const uint64_t seed = FirstSeed() + static_cast<uint64_t>(round);
    INFO("seed " << seed);
    RawRequester bad(world.cluster.endpoint(), {.name = "garbage"});
    Garbage garbage(bad, world.chunk.id, seed);
    for (int i = 0; i < kMessages; ++i) {
      garbage.SendOne();
      if (i % 4 == 3) Settle(bad);
    }
    REQUIRE(node.process().Running());
    world.CheckGoodAnswer();
    CHECK(bad.errors_seen() > 0);
  }
  CHECK(SumOf(node.Metrics(), "malformed") > malformed_before + kRounds);

  // Chunks that were published by chance went with their sessions.
  Accounting after;
  Eventually(Scaled(absl::Seconds(10)), [&] {
    after = node.Account();
    return after == before;
  });
  CHECK(after == before);
  CHECK(node.process().Use().fds <= use_before.fds + 8);
  CHECK(node.process().Use().threads <= use_before.threads + 2);
}

TEST_CASE("every message of the parser's corpus is survived") {
  World world;
  RawRequester bad(world.cluster.endpoint(), {.name = "corpus"});
  for (const CorpusMessage& message : MakeCorpus()) {
    INFO(message.name);
    const bool is_request = message.kind == MessageKind::kRequest;
    bad.Post(message.header, {}, is_request ? wire::kRequestAm : wire::kReplyAm);
    Settle(bad);
  }
  CHECK(bad.errors_seen() > 0);
  REQUIRE(world.cluster.node(0).process().Running());
  world.CheckGoodAnswer();
}

TEST_CASE("messages of an unknown kind and messages before any session are survived") {
  World world;
  RawRequester stranger(world.cluster.endpoint(), {.hello = false, .name = "stranger"});
  const Bytes noise(200, std::byte{0xaa});
  for (unsigned am_id : {0u, 3u, 7u, 31u, wire::kReplyAm, wire::kRequestAm}) {
    stranger.Post(noise, noise, am_id);
    stranger.Flush(absl::Seconds(2));
    if (!stranger.connection().ok()) (void)stranger.Reconnect();
  }
  REQUIRE(world.cluster.node(0).process().Running());
  world.CheckGoodAnswer();
}

}  // namespace
}  // namespace latentd::testing
