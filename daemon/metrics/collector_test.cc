#include "daemon/metrics/collector.h"

#include <prometheus/check_names.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>

#include "absl/time/clock.h"
#include "daemon/lane/steady_time.h"
#include "daemon/metrics/lane_metrics.h"
#include "daemon/testing/fake_lane.h"
#include "transport/wire.h"

namespace latentd {
namespace {

NodeSnapshot TestSnapshot() {
  return {
      .node_id = "node-a",
      .version = "1.2.3",
      .model = "test-model",
      .record = "bf16",
      .layout_hash = "00ff",
      .state = "active",
      .states = {"starting", "active"},
      .epoch = 4,
      .table_watches = 2,
      .peer_states = {"unknown", "active", "draining", "unreachable"},
      .peers = {{.id = "node-b", .state = "active", .differs = true},
                {.id = "node-c", .state = "unreachable"}},
      .authority = AuthorityStatus{.registered = true,
                                   .serves_for = absl::Milliseconds(1500),
                                   .coordinates = true,
                                   .troubles = {"etcd: gone"}},
      .calibration = {.lanes_measured = absl::Now() - absl::Seconds(100), .links = 2},
      .sessions = {.live = 3, .opened = 10, .refused = 1, .closed = 4, .expired = 2, .lost = 1}};
}

LaneOptions Options(uint32_t index) {
  LaneOptions options;
  options.index = index;
  options.cache_bytes = uint64_t{1} << 30;
  return options;
}

struct World {
  FakeLane lane0{Options(0)};
  FakeLane lane1{Options(1)};
  Collector collector{{&lane0, &lane1}, TestSnapshot};

  // The samples of a family.
  std::vector<prometheus::ClientMetric> Samples(const std::string& name) const {
    for (const prometheus::MetricFamily& family : collector.Collect()) {
      if (family.name == name) return family.metric;
    }
    FAIL("no metric " << name);
    return {};
  }
  // The value of the one sample that has this label.
  double Value(const std::string& name, const prometheus::ClientMetric::Label& label) const {
    for (const prometheus::ClientMetric& sample : Samples(name)) {
      for (const auto& candidate : sample.label) {
        if (candidate == label) return sample.counter.value + sample.gauge.value;
      }
    }
    FAIL("no sample of " << name << " with " << label.value);
    return 0;
  }
};

TEST_CASE("peers are counted by state, and each says whether it answers and agrees") {
  World world;
  CHECK(world.Value("latentd_peers", {"state", "active"}) == 1);
  CHECK(world.Value("latentd_peers", {"state", "draining"}) == 0);
  CHECK(world.Value("latentd_peer_up", {"peer", "node-b"}) == 1);
  CHECK(world.Value("latentd_peer_up", {"peer", "node-c"}) == 0);
  CHECK(world.Value("latentd_peer_differs", {"peer", "node-b"}) == 1);
  CHECK(world.Value("latentd_peer_differs", {"peer", "node-c"}) == 0);
}

TEST_CASE("the lease, the coordinator and troubles are told where there is an authority") {
  const World world;
  CHECK(world.Samples("latentd_fence_open")[0].gauge.value == 1);
  CHECK(world.Samples("latentd_lease_remaining_seconds")[0].gauge.value == Approx(1.5));
  CHECK(world.Samples("latentd_is_coordinator")[0].gauge.value == 1);
  CHECK(world.Samples("latentd_membership_troubles")[0].gauge.value == 1);
  NodeSnapshot node = TestSnapshot();
  node.authority->serves_for = absl::ZeroDuration();
  MetricFamilies closed;
  AppendNodeMetrics(node, closed);
  node.authority.reset();
  MetricFamilies none;
  AppendNodeMetrics(node, none);
  const auto find = [](const MetricFamilies& families) {
    return std::find_if(families.begin(), families.end(), [](const prometheus::MetricFamily& f) {
      return f.name == "latentd_fence_open";
    });
  };
  REQUIRE(find(closed) != closed.end());
  CHECK(find(closed)->metric[0].gauge.value == 0);
  CHECK(find(none) == none.end());
}

TEST_CASE("a lane's counters come out under its number") {
  World world;
  world.lane1.mutable_stats().attend_rows.Set(77);
  world.lane1.mutable_stats().requests[static_cast<size_t>(wire::Opcode::kAttend)].Set(5);
  world.lane1.mutable_stats().replies_by_code[WireCodeIndex(wire::Code::kWrongEpoch)].Set(6);
  CHECK(world.Value("latentd_attend_rows_total", {"lane", "0"}) == 0);
  CHECK(world.Value("latentd_attend_rows_total", {"lane", "1"}) == 77);
  CHECK(world.Value("latentd_store_capacity_bytes", {"lane", "1"}) == double{1 << 30});
  double attends = 0;
  for (const auto& sample : world.Samples("latentd_requests_total")) {
    if (sample.label.back().value == "ATTEND") attends += sample.counter.value;
  }
  CHECK(attends == 5);
  double stale = 0;
  for (const auto& sample : world.Samples("latentd_replies_total")) {
    if (sample.label.back().value == "WRONG_EPOCH") stale += sample.counter.value;
  }
  CHECK(stale == 6);
}

TEST_CASE("a batch that runs is as old as its start is long ago") {
  World world;
  const absl::Time start = SteadyNow() - absl::Seconds(7);
  world.lane1.mutable_stats().oldest_batch_start_ns.Set(
      static_cast<uint64_t>(absl::ToUnixNanos(start)));
  CHECK(world.Value("latentd_attend_oldest_batch_age_seconds", {"lane", "0"}) == 0);
  CHECK(world.Value("latentd_attend_oldest_batch_age_seconds", {"lane", "1"}) >= 7);
}

TEST_CASE("a latency histogram is cumulative, in seconds and ends at infinity") {
  World world;
  world.lane0.mutable_stats().attend_latency.Observe(1'500);            // 1.5 us: below 2 us
  world.lane0.mutable_stats().attend_latency.Observe(3'000'000);        // 3 ms: below 4.096 ms
  world.lane0.mutable_stats().attend_latency.Observe(100'000'000'000);  // 100 s: the last bucket
  const auto histogram = world.Samples("latentd_attend_latency_seconds")[0].histogram;
  CHECK(histogram.sample_count == 3);
  CHECK(histogram.sample_sum == Approx(100.0030015));
  CHECK(histogram.bucket[0].upper_bound == Approx(1e-6));
  CHECK(histogram.bucket[0].cumulative_count == 0);
  CHECK(histogram.bucket[1].cumulative_count == 1);
  CHECK(histogram.bucket[12].upper_bound == Approx(4.096e-3));
  CHECK(histogram.bucket[12].cumulative_count == 2);
  CHECK(std::isinf(histogram.bucket.back().upper_bound));
  CHECK(histogram.bucket.back().cumulative_count == 3);
}

TEST_CASE("the node's state, epoch and sessions are told") {
  const World world;
  CHECK(world.Value("latentd_node_state", {"state", "active"}) == 1);
  CHECK(world.Value("latentd_node_state", {"state", "starting"}) == 0);
  CHECK(world.Value("latentd_build_info", {"version", "1.2.3"}) == 1);
  CHECK(world.Value("latentd_sessions_ended_total", {"reason", "expired"}) == 2);
  CHECK(world.Samples("latentd_routing_epoch")[0].gauge.value == 4);
  CHECK(world.Samples("latentd_calibration_age_seconds")[0].gauge.value >= 100);
  CHECK(world.Samples("latentd_calibration_links")[0].gauge.value == 2);
}

TEST_CASE("the process is described with plausible numbers") {
  const World world;
  CHECK(world.Samples("process_resident_memory_bytes")[0].gauge.value > 1e6);
  CHECK(world.Samples("process_open_fds")[0].gauge.value >= 3);
  CHECK(world.Samples("process_max_fds")[0].gauge.value >= 64);
  CHECK(world.Samples("process_threads")[0].gauge.value >= 1);
  CHECK(world.Samples("process_cpu_seconds_total")[0].counter.value >= 0);
  const double now =
      absl::ToDoubleSeconds(absl::FromChrono(std::chrono::system_clock::now()) - absl::UnixEpoch());
  CHECK(world.Samples("process_start_time_seconds")[0].gauge.value == Approx(now).margin(600));
}

TEST_CASE("names follow Prometheus' rules and are unique") {
  std::set<std::string> names;
  for (const prometheus::MetricFamily& family : World().collector.Collect()) {
    CAPTURE(family.name);
    CHECK(prometheus::CheckMetricName(family.name));
    CHECK(names.insert(family.name).second);
    CHECK_FALSE(family.help.empty());
    CHECK_FALSE(family.metric.empty());
    const bool total =
        family.name.size() > 6 && family.name.substr(family.name.size() - 6) == "_total";
    CHECK(total == (family.type == prometheus::MetricType::Counter));
  }
}

TEST_CASE("docs/metrics.md lists exactly the metrics that are exported") {
  std::ostringstream text;
  text << std::ifstream("docs/metrics.md").rdbuf();
  const std::string docs = text.str();
  REQUIRE_FALSE(docs.empty());
  std::set<std::string> documented;
  const std::regex row("\\| `((?:latentd|process)_[a-z_]+)` \\|");
  for (std::sregex_iterator it(docs.begin(), docs.end(), row), end; it != end; ++it) {
    documented.insert((*it)[1]);
  }
  std::set<std::string> exported;
  for (const prometheus::MetricFamily& family : World().collector.Collect())
    exported.insert(family.name);
  CHECK(documented == exported);
}

}  // namespace
}  // namespace latentd
