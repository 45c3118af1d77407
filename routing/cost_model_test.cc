#include "routing/cost_model.h"

#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include <catch2/catch.hpp>

#include "routing/cost_constants.h"

namespace latentd {
namespace {

constexpr Geometry kGeometry;
constexpr RecordFormat kFormat = RecordFormat::kBf16;
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

template <ConstantKind Kind>
void Set(Constant<Kind>& constant, double value) {
  constant = MeasuredConstant<Kind>(value);
}

PairConstants MakePair(double probe_us, double bandwidth) {
  PairConstants pair;
  Set(pair.probe_us, probe_us);
  Set(pair.out_bytes_per_us, bandwidth);
  Set(pair.in_bytes_per_us, bandwidth);
  Set(pair.handshake_us, 100);
  Set(pair.range_us, 1);
  return pair;
}

HolderLoad MakeLoad(double queue_us) {
  HolderLoad load;
  Set(load.queue_us, queue_us);
  return load;
}

TimedTable MakeTable(const std::vector<float>& us) {
  const std::vector<uint32_t> rows = {1, 1024};
  const std::vector<uint32_t> tokens = {64, 8192};
  return {ConstantState::kMeasured, ComputeTable::Make(rows, tokens, us).value()};
}

NodeConstants MakeNode() {
  NodeConstants node;
  node.Compute(kFormat, ComputeRegime::kLatency) = MakeTable({12, 16, 14, 60});
  return node;
}

RequesterConstants MakeRequester() {
  RequesterConstants requester;
  Set(requester.merge_us, 0.01);
  Set(requester.splice_records_per_us, 1000);
  Set(requester.copy_bytes_per_us, 10000);
  Set(requester.prefill_us_per_token, 50);
  requester.node = MakeNode();
  return requester;
}

RouteTerms Route(const NodeConstants& node, const PairConstants& pair, const HolderLoad& load,
                 double rows, double tokens, double chunks = 1) {
  RoutePricer pricer;
  pricer.Reset(node, pair, load, 0.01, kGeometry, kFormat, rows);
  CHECK(pricer.RoundTripUs(tokens, chunks) == Approx(pricer.Terms(tokens, chunks).RoundTripUs()));
  return pricer.Terms(tokens, chunks);
}

TEST_CASE("a routed round trip is the sum of its terms by the bytes that cross the wire") {
  const RouteTerms terms = Route(MakeNode(), MakePair(16, 25000), MakeLoad(3), 1024, 8192, 2);
  CHECK(terms.probe_us == 16);
  CHECK(terms.transfer_us == Approx((144 + 2 * 24 + 1024 * 1152) / 25000.0));
  CHECK(terms.queue_us == 3);
  CHECK(terms.compute_us == Approx(60));
  CHECK(terms.return_us == Approx((80 + 1024 * 1028) / 25000.0));
  CHECK(terms.merge_us == Approx(10.24));
  CHECK(terms.RoundTripUs() == Approx(terms.probe_us + terms.transfer_us + terms.queue_us +
                                      terms.compute_us + terms.return_us));
}

TEST_CASE("the study's constants give the study's round trips") {
  // docs/design.md §8: probe 16 us, 25 GB/s; 256 rows take 31-48 us, 1024 rows 116 us. Its compute
  // is not in the quotation: 20 us for one launch's rows, in proportion from there.
  const RouteTerms small = Route(MakeNode(), MakePair(16, 25000), MakeLoad(0), 256, 64);
  CHECK(small.RoundTripUs() > 31);
  CHECK(small.RoundTripUs() < 53);
  const RouteTerms large = Route(MakeNode(), MakePair(16, 25000), MakeLoad(0), 1024, 64);
  CHECK(large.probe_us + large.transfer_us + large.return_us == Approx(105.3).epsilon(0.01));
}

TEST_CASE("a fetch is the sum of its terms by the record's bytes") {
  PairConstants pair = MakePair(16, 25000);
  const RequesterConstants requester = MakeRequester();
  FetchShape shape{.tokens = 2048, .layers = 27, .record_bytes = 656, .ranges = 5};
  FetchTerms terms = PriceFetch(pair, requester, shape);
  const double bytes = 2048.0 * 27 * 656;
  CHECK(terms.handshake_us == 100);
  CHECK(terms.transfer_us == Approx(bytes / 25000));
  CHECK(terms.ranges_us == 4);
  CHECK(terms.copy_us == Approx(bytes / 10000));
  CHECK(terms.splice_us == 0);

  pair.staged_fetch = false;
  shape.shifted = true;
  shape.record_bytes = 1152;
  terms = PriceFetch(pair, requester, shape);
  CHECK(terms.copy_us == 0);
  CHECK(terms.splice_us == Approx(2048.0 * 27 / 1000));
  CHECK(terms.transfer_us == Approx(2048.0 * 27 * 1152 / 25000));
  CHECK(PricePrefillUs(requester, 2048) == Approx(2048 * 50));
}

TEST_CASE("prices do not fall with rows, tokens, chunks and queue, nor rise with bandwidth") {
  for (uint32_t seed = 1; seed <= 200; ++seed) {
    INFO("seed " << seed);
    std::mt19937 random(seed);
    std::uniform_real_distribution<double> share(0, 1);
    NodeConstants node = MakeNode();
    node.Compute(kFormat, ComputeRegime::kThroughput) =
        MakeTable({10, 10 + static_cast<float>(500 * share(random)), 20, static_cast<float>(600)});
    if (seed % 5 == 0) node.Compute(kFormat, ComputeRegime::kLatency).state = {};
    const double rows = 1 + random() % 3000;
    const double tokens = 1 + random() % 20000;
    const double queue_us = 300 * share(random);
    const double bandwidth = 100 + 10000 * share(random);
    const double more = 1 + 1000 * share(random);
    const auto price = [&](double r, double t, double q, double b, double chunks) {
      return Route(node, MakePair(16, b), MakeLoad(q), r, t, chunks).RoundTripUs();
    };
    const double us = price(rows, tokens, queue_us, bandwidth, 1);
    REQUIRE(std::isfinite(us));
    CHECK(price(rows + more, tokens, queue_us, bandwidth, 1) > us);
    CHECK(price(rows, tokens + more, queue_us, bandwidth, 1) >= us * (1 - 1e-12));
    CHECK(price(rows, tokens, queue_us + more, bandwidth, 1) > us);
    CHECK(price(rows, tokens, queue_us, bandwidth + more, 1) < us);
    CHECK(price(rows, tokens, queue_us, bandwidth, 2) > us);
  }
}

TEST_CASE("a constant that is not known costs more than one that is, and is never free") {
  const auto check = [](auto constant, double value) {
    using C = decltype(constant);
    constant = C{value, ConstantState::kMeasured};
    CHECK(constant.Usable() == value);
    const C stale{value, ConstantState::kStale};
    CHECK((stale.Usable() > 0 && stale.Usable() != value));
    for (const double absurd : {kNan, -1.0, -0.5, 1e300, std::numeric_limits<double>::infinity()})
      CHECK(C{absurd, ConstantState::kMeasured}.Usable() == C{}.Usable());
    CHECK(C{}.Usable() > 0);
    CHECK(C{value, ConstantState::kQuarantined}.Usable() == C{}.Usable());
  };
  check(Constant<ConstantKind::kProbe>{}, 16);
  check(Constant<ConstantKind::kBandwidth>{}, 25000);
  check(Constant<ConstantKind::kHandshake>{}, 100);
  check(Constant<ConstantKind::kRange>{}, 1);
  check(Constant<ConstantKind::kMerge>{}, 0.01);
  check(Constant<ConstantKind::kSpliceRate>{}, 1000);
  check(Constant<ConstantKind::kCopyRate>{}, 10000);
  check(Constant<ConstantKind::kPrefill>{}, 50);
  check(Constant<ConstantKind::kQueue>{}, 7);
  check(Constant<ConstantKind::kRetryAfter>{}, 500);

  const HolderLoad idle = MakeLoad(0);
  const double known = Route(MakeNode(), MakePair(16, 25000), idle, 128, 2048).RoundTripUs();
  PairConstants stale = MakePair(16, 25000);
  MarkStale(stale);
  const double old = Route(MakeNode(), stale, idle, 128, 2048).RoundTripUs();
  NodeConstants old_node = MakeNode();
  MarkStale(old_node);
  CHECK(old > known);
  CHECK(Route(old_node, stale, idle, 128, 2048).RoundTripUs() > old);
  CHECK(Route({}, {}, {}, 128, 2048).RoundTripUs() > 100 * known);
}

TEST_CASE("the longer the queue, the nearer a batch is to what it takes on a busy device") {
  NodeConstants node = MakeNode();
  const auto us = [&node](double queue_us) {
    return ComputePricer(node, kFormat, 1024, queue_us).Us(8192);
  };
  CHECK(us(1e6) == Approx(60));  // without a table of the busy device
  node.Compute(kFormat, ComputeRegime::kThroughput) = MakeTable({24, 32, 28, 120});
  CHECK(us(0) == Approx(60));
  CHECK(us(12) == Approx(90));  // as long as the quickest batch
  CHECK(us(1e6) == Approx(120).epsilon(1e-4));
  // Timed at other points.
  const std::vector<uint32_t> points = {1, 16384};
  CHECK(SetTable("b", kFormat, ComputeRegime::kThroughput, points, points,
                 std::vector<float>{10, 20, 20, 3000}, node)
            .ok());
  CHECK(us(12) > 60);
  CHECK(us(12) < us(13));
}

TEST_CASE("a zero queue is a measurement, and a refusal is a queue") {
  CHECK(QueueUs(MakeLoad(0)) == 0);
  CHECK(QueueUs({}) == RuleOf(ConstantKind::kQueue).assumed);
  HolderLoad load = MakeLoad(3);
  load.saturated = true;
  CHECK(QueueUs(load) == RuleOf(ConstantKind::kRetryAfter).assumed);
  Set(load.retry_after_us, 400);
  CHECK(QueueUs(load) == 400);
  Set(load.queue_us, 900);
  CHECK(QueueUs(load) == 900);
}

TEST_CASE("absurd constants of a peer go into quarantine, bounded and named") {
  PairConstants pair = MakePair(16, 25000);
  CHECK(Vet("node-b", pair).ok());
  pair.in_bytes_per_us.value = -3;
  pair.probe_us.value = 1e9;
  pair.range_us.value = kNan;
  const absl::Status status = Vet("node-b", pair);
  REQUIRE(absl::IsInvalidArgument(status));
  const std::string message(status.message());
  CHECK(message.find("node-b: ") == 0);
  CHECK(message.find("in_bandwidth is -3 bytes/us, allowed 0.1..1e+07") != std::string::npos);
  CHECK(message.find("probe is 1e+09 us") != std::string::npos);
  CHECK(message.find("range is nan us") != std::string::npos);
  CHECK(message.find("out_bandwidth") == std::string::npos);
  CHECK(pair.in_bytes_per_us.state == ConstantState::kQuarantined);
  CHECK(pair.in_bytes_per_us.value == RuleOf(ConstantKind::kBandwidth).least);
  CHECK(pair.probe_us.value == RuleOf(ConstantKind::kProbe).most);
  CHECK(pair.out_bytes_per_us.state == ConstantState::kMeasured);
  CHECK(Vet("node-b", pair).ok());  // said once

  RequesterConstants requester = MakeRequester();
  requester.merge_us.value = 0;
  CHECK(Vet("frontend", requester).message() ==
        "frontend: constant merge is 0 us/row, allowed 1e-06..10000");
  HolderLoad load = MakeLoad(-1);
  CHECK(absl::IsInvalidArgument(Vet("node-b", load)));
  NodeConstants node = MakeNode();
  const std::vector<uint32_t> one = {64};
  const absl::Status table =
      SetTable("node-b", kFormat, ComputeRegime::kLatency, one, one, std::vector<float>{-2}, node);
  CHECK(
      std::string(table.message()).find("node-b: bf16 latency: compute table: -2 us at 64 rows") ==
      0);
  CHECK(node.Compute(kFormat, ComputeRegime::kLatency).state == ConstantState::kQuarantined);
  CHECK(ComputePricer(node, kFormat, 64, 0).Us(64) > kAssumedBatchUs);
  CHECK(
      SetTable("b", kFormat, ComputeRegime::kLatency, one, one, std::vector<float>{20}, node).ok());
  CHECK(ComputePricer(node, kFormat, 64, 0).Us(64) == Approx(20));
  HolderLoad missing;
  CHECK(Vet("node-b", missing).ok());
}

}  // namespace
}  // namespace latentd
