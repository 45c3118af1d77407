#include "tools/calibration.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "tools/predictions.h"

namespace latentd {
namespace {

using Catch::Matchers::Contains;

const Layout kLayout{.model = "test", .layers = 2};

// What a node of 10 us probe, 2,000 bytes/us out and 4,000 in would give, that attends in
// 5 us + 0.002 us for each row and token, and merges in 0.1 us a row.
double RouteUs(uint32_t rows, uint32_t tokens) {
  const double out = (144 + 24 + 1152.0 * rows) / 2000;
  const double in = (80 + 1028.0 * rows) / 4000;
  return 10 + out + in + 5 + 0.002 * rows * tokens + 0.1 * rows;
}

CalibrationSamples Samples() {
  CalibrationSamples samples;
  NodeSamples node;
  for (const uint64_t bytes : {0, 65536, 262144, 1048576}) {
    const auto size = static_cast<double>(bytes);
    node.link.out.push_back({bytes, 10 + size / 2000});
    node.link.in.push_back({bytes, 10 + size / 4000});
    if (bytes > 0) node.fetch.whole.push_back({bytes, 50 + size / 4000 + size / 8000});
  }
  node.fetch.ranges = 16;
  node.fetch.pieces_bytes = 1048576;
  node.fetch.pieces_us = {50 + 1048576 / 4000.0 + 1048576 / 8000.0 + 15};
  for (const uint32_t rows : {16, 256, 1024}) {
    for (const uint32_t tokens : {64, 2048}) {
      node.attend_us[{rows, tokens}] = {RouteUs(rows, tokens), RouteUs(rows, tokens), 1e7};
      samples.local_us[{rows, tokens}] = {5 + 0.002 * rows * tokens};
    }
  }
  samples.nodes = {node};
  samples.merge_us = {0.1};
  samples.splice_records_per_us = {300};
  return samples;
}

TEST_CASE("a calibration predicts round trips between the points that it was fitted to") {
  const auto calibration = Calibrate(kLayout, {"node-a"}, Samples());
  REQUIRE(calibration.ok());
  const auto holders = calibration->Holders();
  for (const auto& [rows, tokens] : {std::pair{128u, 512u}, {512u, 1024u}, {16u, 700u}}) {
    const RoutePrediction route =
        PredictRoute(kLayout, holders, calibration->requester, {.rows = rows, .tokens = tokens});
    CHECK(route.layer_us == Approx(RouteUs(rows, tokens)).epsilon(0.01));
    CHECK(route.slowest.queue_us == 0);
    CHECK(route.slowest.compute_us == Approx(5 + 0.002 * rows * tokens).epsilon(0.02));
  }
  CHECK(calibration->requester.splice_records_per_us.Usable() == 300);
  CHECK(calibration->requester.copy_bytes_per_us.Usable() == Approx(8000).epsilon(0.02));
  CHECK(calibration->requester.prefill_us_per_token.state == ConstantState::kMissing);
}

TEST_CASE("of rows in a device's memory the link's bandwidth is told from the attends") {
  CalibrationSamples samples = Samples();
  samples.on_device = true;
  // 40 us, whatever is merged, and 20,000 bytes/us both ways, where echoes have a tenth of that.
  const auto device_us = [](uint32_t rows, uint32_t tokens) {
    return 40 + rows * (1152.0 + 1028.0) / 20000 + 1e-5 * rows * tokens;
  };
  for (auto& [point, times] : samples.nodes[0].attend_us)
    times = {device_us(point.rows, point.tokens)};
  const auto calibration = Calibrate(kLayout, {"node-a"}, samples);
  REQUIRE(calibration.ok());
  const RoutePrediction route = PredictRoute(kLayout, calibration->Holders(),
                                             calibration->requester, {.rows = 512, .tokens = 1024});
  CHECK(route.layer_us == Approx(device_us(512, 1024)).epsilon(0.01));
  CHECK(route.merge_us < 0.01);
}

TEST_CASE("without a rope there is no rate of turning records, and without nodes no copies") {
  CalibrationSamples samples = Samples();
  samples.splice_records_per_us = {std::numeric_limits<double>::quiet_NaN()};
  samples.nodes.clear();
  const auto calibration = Calibrate(kLayout, {}, samples);
  REQUIRE(calibration.ok());
  CHECK(calibration->requester.splice_records_per_us.state == ConstantState::kMissing);
  CHECK(calibration->requester.copy_bytes_per_us.state == ConstantState::kMissing);
}

TEST_CASE("timings that make no sense are refused, by whose they are") {
  CalibrationSamples samples = Samples();
  samples.nodes[0].attend_us[{16, 64}] = {std::numeric_limits<double>::infinity()};
  const auto calibration = Calibrate(kLayout, {"node-a"}, samples);
  CHECK_FALSE(calibration.ok());
  CHECK_THAT(std::string(calibration.status().message()), Contains("node-a"));
}

TEST_CASE("a quantile is a value that was there") {
  CHECK(QuantileOf({4, 1, 3, 2, 5}, 0.5) == 3);
  CHECK(QuantileOf({4, 1, 3, 2, 5}, 0) == 1);
  CHECK(QuantileOf({4, 1, 3, 2, 5}, 1) == 5);
  CHECK(std::isnan(QuantileOf({}, 0.5)));
}

}  // namespace
}  // namespace latentd
