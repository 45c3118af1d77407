// What must hold between values, through the loader, so that positions are tested too.
#include <catch2/catch.hpp>
#include <string>

#include "config/loader.h"

namespace latentd {
namespace {

constexpr char kNode[] = "node: { id: a, advertise: 10.0.0.1 }\n";
constexpr char kLane[] = "data: { lanes: [{ device: cpu, cache: 1GiB }] }\n";
constexpr char kModel[] = "model: tiny\n";

std::string FaultsOf(const std::string& text) {
  const ConfigOrFaults loaded = LoadConfig(text, "f");
  return ToString(std::span(loaded.faults));
}

// With a line that is number 4.
std::string FaultsWith(const std::string& more) {
  return FaultsOf(std::string(kNode) + kLane + kModel + more);
}

// With data as line 3.
std::string FaultsWithData(const std::string& data) {
  return FaultsOf(std::string(kNode) + kModel + data);
}

TEST_CASE("watermarks are in order") {
  CHECK(FaultsWith("store: { high_watermark: 0.5, low_watermark: 0.5 }\n") ==
        "f:4:46: store.low_watermark: 0.5 is not below high_watermark, 0.5\n");
  // The one that is given is where the fault is told.
  CHECK(FaultsWith("store: { high_watermark: 0.5 }\n") ==
        "f:4:8: store.low_watermark: 0.9 is not below high_watermark, 0.5\n");
}

TEST_CASE("a peer is given the time to answer two pings") {
  CHECK(FaultsWithData("data: { lanes: [{ device: cpu, cache: 1GiB }], liveness: { ping_ms: 300, "
                       "dead_ms: 599 } }\n") ==
        "f:3:83: data.liveness.dead_ms: 599 is less than twice ping_ms, which is 300\n");
}

TEST_CASE("a session's limits are within its lane's") {
  CHECK(FaultsWithData("data: { lanes: [{ device: cpu, cache: 1GiB }], limits: { "
                       "inflight_per_lane: 63, inflight_bytes_per_lane: 255MiB } }\n") ==
        "f:3:56: data.limits.inflight_per_session: 64 is more than the 63 of inflight_per_lane\n"
        "f:3:56: data.limits.inflight_bytes_per_session: 268435456 bytes are more than the "
        "267386880 bytes of inflight_bytes_per_lane\n");
}

TEST_CASE("a cache holds a page at least") {
  // tiny: 2 layers x 64 tokens x 320 bytes.
  CHECK(FaultsWithData("data: { lanes: [{ device: cpu, cache: 40960 }] }\n") == "");
  CHECK(FaultsWithData("data: { lanes: [{ device: cpu, cache: 40959 }] }\n") ==
        "f:3:39: data.lanes[0].cache: too small for one page, which takes 40960 bytes of this "
        "model in this record format\n");
}

TEST_CASE("a CUDA device has one lane, a CPU any number") {
  CHECK(FaultsWithData(
            "data: { lanes: [{ device: cpu, cache: 1GiB }, { device: cpu, cache: 1GiB }, "
            "{ device: cuda:0, cache: 1GiB }, { device: cuda:1, cache: 1GiB }] }\n") == "");
  CHECK(FaultsWithData("data: { lanes: [{ device: cuda:0, cache: 1GiB },\n"
                       "                { device: cuda:0, cache: 1GiB }] }\n") ==
        "f:4:27: data.lanes[1].device: cuda:0 has a lane already, data.lanes[0]\n");
}

TEST_CASE("a lane's CPUs are named once") {
  CHECK(FaultsWithData("data: { lanes: [{ device: cpu, cache: 1GiB, cpus: [1, 2, 1] }] }\n") ==
        "f:3:51: data.lanes[0].cpus: names a CPU twice\n");
}

TEST_CASE("widths fit the record format") {
  const std::string model = "model: { name: m, layers: 1, heads: 1, ";
  CHECK(FaultsOf(std::string(kNode) + kLane + model + "latent: 192 }\nrecord: fp8\n") ==
        "f:4:9: record: latent width 192, expected a multiple of 128 for fp8 records\n");
  CHECK(FaultsOf(std::string(kNode) + kLane + model + "latent: 192 }\nrecord: bf16\n") == "");
  CHECK(FaultsOf(std::string(kNode) + kLane + model + "rope: 33 }\n") ==
        "f:3:46: model.rope: rope width 33, expected an even number up to 1024\n");
  CHECK(FaultsOf(std::string(kNode) + kLane + model + "rope_parameters: {yarn_factor: 4} }\n") ==
        "f:3:57: model.rope_parameters.original_context: must be given with a yarn_factor above "
        "1\n");
}

TEST_CASE("with etcd, the nodes and so the replicas are not this file's to judge") {
  CHECK(FaultsWith("replicas: 3\n"
                   "membership: { backend: etcd, endpoints: [\"10.0.0.9:2379\"], lease: 3s }\n") ==
        "");
}

TEST_CASE("what etcd needs is complete") {
  CHECK(FaultsWith("membership: { user: u }\n") ==
        "f:4:21: membership.user: needs membership.password_file\n");
  CHECK(FaultsWith("membership: { password_file: p }\n") ==
        "f:4:30: membership.password_file: needs membership.user\n");
  CHECK(FaultsWith("membership: { tls: { ca: a, key: k } }\n") ==
        "f:4:34: membership.tls.key: needs membership.tls.cert\n");
  CHECK(FaultsWith("membership: { tls: { cert: a, key: k } }\n") ==
        "f:4:20: membership.tls.ca is missing\n");
  CHECK(FaultsWith("membership: { endpoints: [\"e:1\"] }\n") ==
        "f:4:26: membership.endpoints: is for backend etcd\n");
  CHECK(FaultsWith("membership: { backend: etcd, user: u, password_file: p, tls: { ca: a, cert: c, "
                   "key: k }, "
                   "endpoints: [\"e:1\", \"f:1\"] }\n") == "");
  CHECK(FaultsWith("membership: { backend: etcd, endpoints: [\"e:1\", \"f:1\", \"e:1\"] }\n") ==
        "f:4:56: membership.endpoints[2]: 'e:1' is membership.endpoints[0] already\n");
  const std::string bare =
      FaultsWith("membership: { backend: etcd, peers: [{ id: a, control: \"h:1\" }] }\n");
  INFO(bare);
  CHECK(bare.find("membership.endpoints: is needed with backend etcd\n") != std::string::npos);
  CHECK(bare.find("membership.peers: is for backend static; etcd knows the nodes\n") !=
        std::string::npos);
}

TEST_CASE("etcd's addresses and the lease are within their bounds") {
  CHECK(FaultsWith("membership: { endpoints: [\"http://10.0.0.9:2379\"] }\n") ==
        "f:4:27: membership.endpoints[0]: 'http://10.0.0.9:2379' is not an address such as "
        "10.0.0.1:7400 or [::1]:7400\n");
  CHECK(FaultsWith("membership: { lease: 1s }\n") == "");
  CHECK(FaultsWith("membership: { lease: 60s }\n") == "");
  CHECK(FaultsWith("membership: { lease: 999ms }\n") != "");
  CHECK(FaultsWith("membership: { lease: 61s }\n") != "");
}

TEST_CASE("peers hold this node, under its own address") {
  CHECK(FaultsWith("membership: { peers: [{ id: a, control: \"10.0.0.1:7400\" }] }\n") == "");
  CHECK(FaultsWith("membership: { peers: [{ id: b, control: \"10.0.0.1:7400\" }] }\n") ==
        "f:4:22: membership.peers: this node, 'a', is not among them\n");
  CHECK(FaultsWith("membership: { peers: [{ id: a, control: \"10.0.0.1:7500\" }] }\n") ==
        "f:4:41: membership.peers[0].control: '10.0.0.1:7500' is not this node's own "
        "'10.0.0.1:7400', node.advertise with the port of control.listen\n");
  // With any free port there is nothing to compare.
  CHECK(FaultsWith("control: { listen: \"127.0.0.1:0\" }\n"
                   "membership: { peers: [{ id: a, control: \"10.0.0.1:7500\" }] }\n") == "");
}

TEST_CASE("peers are told apart by id and address, and all weigh or none") {
  CHECK(FaultsWith("membership:\n"                                                  // 4
                   "  peers:\n"                                                     // 5
                   "    - { id: a, control: \"10.0.0.1:7400\", capacity: 1GiB }\n"  // 6
                   "    - { id: a, control: \"10.0.0.2:7400\", capacity: 1GiB }\n"  // 7
                   "    - { id: b, control: \"10.0.0.2:7400\" }\n") ==              // 8
        "f:7:13: membership.peers[1].id: 'a' is membership.peers[0] already\n"
        "f:8:7: membership.peers[2].capacity: must be given for all peers or for none\n"
        "f:8:25: membership.peers[2].control: '10.0.0.2:7400' is membership.peers[1] already\n");
}

TEST_CASE("there are as many nodes as replicas") {
  CHECK(FaultsWith("replicas: 2\n") == "f:4:11: replicas: 2 replicas, but only 1 node\n");
  const std::string peers =
      "membership: { peers: [{ id: a, control: \"10.0.0.1:7400\" }, "
      "{ id: b, control: \"10.0.0.2:7400\" }] }\n";
  CHECK(FaultsWith(peers + "replicas: 2\n") == "");
  CHECK(FaultsWith(peers + "replicas: 3\n") == "f:5:11: replicas: 3 replicas, but only 2 nodes\n");
}

TEST_CASE("control plane and metrics do not share a port") {
  CHECK(FaultsWith("metrics: { listen: 127.0.0.1:7400 }\n") ==
        "f:4:20: metrics.listen: port 7400 is control.listen's already\n");
  CHECK(FaultsWith("control: { listen: 10.0.0.1:7400 }\nmetrics: { listen: 127.0.0.1:7400 }\n") ==
        "");
  CHECK(FaultsWith("control: { listen: 127.0.0.1:0 }\nmetrics: { listen: 127.0.0.1:0 }\n") == "");
}

TEST_CASE("relations are judged only between values that are known") {
  CHECK(FaultsWith("store: { low_watermark: 1, high_watermark: 2 }\n") ==
        "f:4:44: store.high_watermark: '2' is out of range: it must be 0.01 to 1\n");
  CHECK(FaultsWith("replicas: 2\nmembership: { peers: { id: a } }\n") ==
        "f:5:22: membership.peers: is a map, not a list\n");
  CHECK(FaultsWithData("data: { lanes: [{ device: cpu, cachee: 1GiB }] }\n") ==
        "f:3:17: data.lanes[0].cache is missing\n"
        "f:3:32: unknown key 'cachee' in data.lanes[0] (did you mean 'cache'?)\n");
}

TEST_CASE("one value that is wrong hides no fault of others") {
  CHECK(FaultsWith("replicas: 2\nstore: { high_watermark: 2 }\n") ==
        "f:4:11: replicas: 2 replicas, but only 1 node\n"
        "f:5:26: store.high_watermark: '2' is out of range: it must be 0.01 to 1\n");
  CHECK(FaultsWith("recrod: fp8\nreplicas: 2\n") ==
        "f:4:1: unknown key 'recrod' (did you mean 'record'?)\n"
        "f:5:11: replicas: 2 replicas, but only 1 node\n");
  CHECK(FaultsWith("membership:\n"                                  // 4
                   "  peers:\n"                                     // 5
                   "    - { id: a, control: \"10.0.0.1:7400\" }\n"  // 6
                   "    - { id: b, control: \"10.0.0.2:port\" }\n"  // 7
                   "    - { id: b, control: \"10.0.0.1:7400\" }\n")
            .find("f:8:13: membership.peers[2].id: 'b' is membership.peers[1] already\n"
                  "f:8:25: membership.peers[2].control: '10.0.0.1:7400' is membership.peers[0] "
                  "already\n") != std::string::npos);
}

}  // namespace
}  // namespace latentd
