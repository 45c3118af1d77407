#include "client/pair_probe.h"

#include <catch2/catch.hpp>

#include "client/testing/fixture.h"

namespace latentd::testing {
namespace {

using Catch::Matchers::Contains;

// Round trips of a link of 10 us, 2,000 bytes/us out and 4,000 in; `announced`: what a message of
// more than 32 KiB takes on top.
LinkTimings Timings(double announced_us) {
  LinkTimings timings;
  for (uint64_t bytes : {0, 16384, 65536, 262144, 524288, 1048576}) {
    const double fixed = 10 + (bytes > 32768 ? announced_us : 0);
    for (int i = 0; i < 9; ++i) {
      timings.out.push_back({bytes, fixed + static_cast<double>(bytes) / 2000});
      timings.in.push_back({bytes, fixed + static_cast<double>(bytes) / 4000});
    }
  }
  return timings;
}

TEST_CASE("probe and both bandwidths come out of round trips in either direction") {
  const auto pair = FitPair("node-a", Timings(0));
  REQUIRE(pair.ok());
  CHECK(pair->probe_us.Usable() == Approx(10).epsilon(0.01));
  CHECK(pair->out_bytes_per_us.Usable() == Approx(2000).epsilon(0.01));
  CHECK(pair->in_bytes_per_us.Usable() == Approx(4000).epsilon(0.01));
  CHECK(pair->handshake_us.state == ConstantState::kMissing);
}

TEST_CASE("large messages both ways pay for their announcement twice") {
  const auto pair = FitPair("node-a", Timings(6));
  REQUIRE(pair.ok());
  const double predicted = pair->probe_us.Usable() + 524288 / pair->out_bytes_per_us.Usable() +
                           524288 / pair->in_bytes_per_us.Usable();
  CHECK(predicted == Approx(10 + 2 * 6 + 524288 / 2000.0 + 524288 / 4000.0).epsilon(0.03));
}

TEST_CASE("a link that is no link is refused by name") {
  LinkTimings timings = Timings(0);
  for (LinkSample& sample : timings.out) sample.us = 1e8 + static_cast<double>(sample.bytes);
  const auto pair = FitPair("node-a", timings);
  CHECK(absl::IsInvalidArgument(pair.status()));
  CHECK_THAT(std::string(pair.status().message()), Contains("node-a"));
  CHECK_FALSE(FitPair("node-a", {}).ok());
}

TEST_CASE("what a fetch takes beside the wire is a handshake, the copy and its ranges") {
  PairConstants pair = FitPair("node-a", Timings(0)).value();
  FetchTimings timings;
  for (uint64_t bytes : {1 << 17, 1 << 18, 1 << 19, 1 << 20}) {
    for (int i = 0; i < 5; ++i) {
      const auto size = static_cast<double>(bytes);
      timings.whole.push_back({bytes, 50 + size / 4000 + size / 8000});
    }
  }
  timings.ranges = 16;
  timings.pieces_bytes = 1 << 20;
  const double whole_us = 50 + 1048576 / 4000.0 + 1048576 / 8000.0;
  timings.pieces_us = {whole_us + 30, whole_us + 30, whole_us + 300};
  Constant<ConstantKind::kCopyRate> copy;
  REQUIRE(FitFetch("node-a", timings, pair, copy).ok());
  CHECK(pair.handshake_us.Usable() == Approx(50).epsilon(0.02));
  CHECK(pair.range_us.Usable() == Approx(2).epsilon(0.02));
  CHECK(copy.Usable() == Approx(8000).epsilon(0.02));
  CHECK(pair.probe_us.Usable() == Approx(10).epsilon(0.01));

  timings.whole.clear();
  const PairConstants before = pair;
  CHECK_FALSE(FitFetch("node-a", timings, pair, copy).ok());
  CHECK(pair.handshake_us.Usable() == before.handshake_us.Usable());
}

TEST_CASE("a probe sends messages of every size that the daemon takes, and few bytes if told so") {
  FakeDaemon daemon({.payload_bytes_per_request = 8192});
  daemon.SetScript([](const ParsedRequest& request) {
    return FakeAnswer{.payload =
                          std::vector<std::byte>(std::get<EchoRequest>(request.body).reply_bytes)};
  });
  const auto client = ConnectWith(PatientOptions(daemon));
  PairProbeOptions options = {.sizes = {0, 4096, 65536}, .repeats = 8, .timeout = kLong};
  const auto timings = TimeLink(*client, {.node = "node-a"}, options);
  INFO(timings.status().ToString());
  REQUIRE(timings.ok());
  CHECK(timings->out.size() == 16);  // 65,536 bytes are more than it takes
  CHECK(timings->in.size() == 16);
  options.most_bytes = 1;
  CHECK(TimeLink(*client, {.node = "node-a"}, options)->out.size() == 2);
  options.sizes = {0, 65536};
  CHECK(absl::IsInvalidArgument(TimeLink(*client, {.node = "node-a"}, options).status()));
  options.sizes = {0, 4096};
  options.interrupted = [] { return true; };
  CHECK(absl::IsCancelled(TimeLink(*client, {.node = "node-a"}, options).status()));
}

}  // namespace
}  // namespace latentd::testing
