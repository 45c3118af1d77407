#include "tools/costs_view.h"

#include "catch2/catch.hpp"

namespace latentd {
namespace {

using Catch::Matchers::Contains;

const absl::Time kNow = absl::FromUnixSeconds(1'800'000'000);

v1::CostsResponse Costs() {
  v1::CostsResponse costs;
  costs.set_every_node(true);
  v1::NodeCosts& node = *costs.add_nodes();
  node.set_node_id("node-a");
  node.set_period_ms(3'600'000);
  v1::ComputeCosts& compute = *node.add_compute();
  compute.set_record("bf16");
  compute.set_regime(v1::COMPUTE_REGIME_LATENCY);
  compute.set_measured_unix_ms(absl::ToUnixMillis(kNow - absl::Seconds(90)));
  compute.add_rows(1);
  compute.add_rows(4096);
  compute.add_tokens(64);
  compute.add_tokens(8192);
  for (const float us : {10.f, 20.f, 30.f, 4321.f}) compute.add_us(us);
  v1::LinkCosts& link = *node.add_links();
  link.set_peer("node-b");
  link.set_measured_unix_ms(absl::ToUnixMillis(kNow - absl::Hours(5)));
  link.set_probe_us(17.25);
  link.set_out_bytes_per_us(9000);
  return costs;
}

TEST_CASE("costs are shown with their ages and states") {
  const View view = CostsView(Costs(), kNow);
  CHECK_THAT(view.text, Contains("node-a") && Contains("alone") && Contains("measured") &&
                            Contains("1m30s") && Contains("4321") && Contains("4096x8192"));
  CHECK_THAT(view.text, Contains("node-b") && Contains("stale") && Contains("5h ") &&
                            Contains("17.2") && Contains("9000"));
  CHECK_THAT(view.text, !Contains("ask the others"));
  const nlohmann::json& node = view.json["nodes"][0];
  CHECK(node["compute"][0]["us"].size() == 4);
  CHECK(node["compute"][0]["state"] == "measured");
  CHECK(node["links"][0]["probe_us"]["state"] == "stale");
  CHECK(node["links"][0]["handshake_us"]["state"] == "missing");
  CHECK(node["links"][0]["handshake_us"]["usable"] > 0);
}

TEST_CASE("what is absurd is shown as not believed, and breaks nothing") {
  v1::CostsResponse costs = Costs();
  costs.mutable_nodes(0)->mutable_links(0)->set_probe_us(-3);
  costs.mutable_nodes(0)->mutable_compute(0)->mutable_us()->RemoveLast();
  costs.add_quarantined("node-a to node-b: constant probe is -3 us");
  costs.set_every_node(false);
  const View view = CostsView(costs, kNow);
  CHECK_THAT(view.text, Contains("not believed: node-a to node-b: constant probe is -3 us") &&
                            Contains("quarantined") && Contains("ask the others"));
  CHECK(view.json["nodes"][0]["compute"][0]["state"] == "quarantined");
}

TEST_CASE("a cluster that has measured nothing says so") {
  CHECK_THAT(CostsView({}, kNow).text, Contains("nothing was measured yet"));
}

TEST_CASE("a calibration shows what it measured, what it could not, and how long it took") {
  v1::CalibrateResponse measured;
  *measured.mutable_costs() = Costs().nodes(0);
  measured.add_troubles("link to node-c: no answer");
  measured.set_took_ms(2340);
  const View view = CalibrateView(measured, kNow);
  CHECK_THAT(view.text, Contains("node-a") && Contains("took 2.3 s") &&
                            Contains("not measured: link to node-c: no answer"));
  CHECK(view.json["took_ms"] == 2340);
}

}  // namespace
}  // namespace latentd
