// Daemons measure what they and their links cost, and every node of the cluster learns it from etcd.
#include <grpcpp/grpcpp.h>

#include <catch2/catch.hpp>
#include <chrono>
#include <string>

#include "proto/latentd/v1/admin.grpc.pb.h"
#include "proto/latentd/v1/cluster.grpc.pb.h"
#include "routing/costs_proto.h"
#include "tests/cluster/etcd_cluster.h"
#include "tests/cluster/eventually.h"
#include "tests/cluster/fault_world.h"

namespace latentd::testing {
namespace {

std::shared_ptr<grpc::Channel> ChannelTo(Node& node) {
  return grpc::CreateChannel(node.endpoint(), grpc::InsecureChannelCredentials());
}

v1::CalibrateResponse Calibrate(Node& node) {
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::minutes(5));
  v1::CalibrateResponse response;
  const grpc::Status status =
      v1::Admin::NewStub(ChannelTo(node))->Calibrate(&context, {}, &response);
  INFO(status.error_message());
  REQUIRE(status.ok());
  return response;
}

// Of `of`, as `asked` knows it.
NodeCosts CostsOf(Node& asked, const Node& of) {
  grpc::ClientContext context;
  v1::GetCostsResponse response;
  v1::GetCostsRequest request;
  request.add_node_ids(of.id());
  if (!v1::Cluster::NewStub(ChannelTo(asked))->GetCosts(&context, request, &response).ok() ||
      response.nodes_size() != 1) {
    return {};
  }
  CHECK(response.every_node());
  NodeCostsReading reading = FromProto(response.nodes(0), absl::Now(), Generation{});
  CHECK(reading.quarantined.empty());
  return reading.costs;
}

TEST_CASE("what one daemon has measured of itself and of a link is known to the other") {
  if (Skipped()) return;
  EtcdCluster cluster(
      {.nodes = 2, .more = "calibration: { at_start: false, longest_batch: 2ms }\n"});
  Node& measurer = cluster.node(0);
  Node& other = cluster.node(1);
  CHECK(CostsOf(other, measurer).node.empty());  // nobody has measured anything
  const v1::CalibrateResponse measured = Calibrate(measurer);
  CHECK(measured.troubles_size() == 0);

  NodeCosts known;
  REQUIRE(Eventually(absl::Seconds(20), [&] {
    known = CostsOf(other, measurer);
    // Links and lanes are told of as they are done.
    return known.LinkTo(other.id()) != nullptr &&
           known.compute.Compute(RecordFormat::kBf16, ComputeRegime::kLatency).state ==
               ConstantState::kMeasured;
  }));
  CHECK(ToInt(known.generation) == measurer.Status().generation());
  for (const ComputeRegime regime : {ComputeRegime::kLatency, ComputeRegime::kThroughput}) {
    const TimedTable& table = known.compute.Compute(RecordFormat::kBf16, regime);
    CHECK(table.state == ConstantState::kMeasured);
    CHECK(table.table.UsAt(1024, 2048) > table.table.UsAt(16, 64));
  }
  const PeerLink& link = *known.LinkTo(other.id());
  CHECK(ToInt(link.peer_generation) == other.Status().generation());
  CHECK(link.constants.probe_us.state == ConstantState::kMeasured);
  CHECK(link.constants.out_bytes_per_us.state == ConstantState::kMeasured);
  CHECK(link.constants.in_bytes_per_us.state == ConstantState::kMeasured);
  CHECK(link.constants.handshake_us.state == ConstantState::kMissing);

  SECTION("a peer that has restarted is measured anew") {
    other.Kill();
    other.Restart();
    const uint64_t life = other.Status().generation();
    CHECK(Eventually(absl::Seconds(60), [&] {
      const NodeCosts costs = CostsOf(measurer, measurer);
      const PeerLink* again = costs.LinkTo(other.id());
      return again != nullptr && ToInt(again->peer_generation) == life;
    }));
  }
  SECTION("what a daemon said goes with it") {
    measurer.Kill();
    CHECK(Eventually(absl::Seconds(20), [&] { return CostsOf(other, measurer).node.empty(); }));
  }
}

}  // namespace
}  // namespace latentd::testing
