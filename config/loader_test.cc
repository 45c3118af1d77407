#include "config/loader.h"

#include <catch2/catch.hpp>
#include <cstdlib>
#include <fstream>
#include <string>

namespace latentd {
namespace {

constexpr char kMinimal[] =
    "node: { id: node-a }\n"
    "data: { lanes: [{ device: cpu, cache: 1GiB }] }\n"
    "model: deepseek-v3\n";

std::string FaultsOf(const std::string& text) {
  const ConfigOrFaults loaded = LoadConfig(text, "f");
  return ToString(std::span(loaded.faults));
}

// The minimal configuration with more lines below.
std::string FaultsWith(const std::string& more) { return FaultsOf(kMinimal + more); }

Config Loaded(const std::string& text) {
  const ConfigOrFaults loaded = LoadConfig(text, "f");
  CHECK(ToString(std::span(loaded.faults)) == "");
  return loaded.config;
}

TEST_CASE("three keys are enough, and all others have defaults") {
  const Config config = Loaded(kMinimal);
  CHECK(config.node.id == "node-a");
  CHECK(config.node.advertise == "127.0.0.1");
  CHECK(config.control.listen == "0.0.0.0:7400");
  CHECK_FALSE(config.control.tls.has_value());
  REQUIRE(config.data.lanes.size() == 1);
  CHECK(config.data.lanes[0].device == Device{});
  CHECK(config.data.lanes[0].cache_bytes == kGiB);
  CHECK(config.model.layers == 61);
  CHECK(config.record == RecordFormat::kBf16);
  CHECK(config.replicas == 1);
  CHECK(AdvertisedControlAddress(config) == "127.0.0.1:7400");
  CHECK(TotalCacheBytes(config) == kGiB);
  CHECK(LayoutOf(config).page_bytes() == uint64_t{61} * 64 * 1152);
}

TEST_CASE("values of every kind are taken over") {
  const Config config = Loaded(R"(
node: { id: "n1", advertise: 10.0.0.1 }
control: { listen: "[::]:7000", tls: { cert: a.pem, key: b.pem, ca: c.pem } }
data:
  transports: [tcp, shm]
  lanes:
    - { device: cuda:1, cache: 60GiB }
    - { device: cpu, cache: 512MiB, threads: 4, cpus: [2, 3] }
  lane: { idle: poll, spin_us: 2ms }
  limits: { inflight_per_session: 8, inflight_bytes_per_session: 64MiB, sessions: 7, chunks: 9 }
  liveness: { ping_ms: 100, dead_ms: 1s }
model: { name: tiny-1, layers: 2, heads: 4, latent: 128, rope: 32, rope_parameters: { theta: 5e4, interleaved: false } }
record: fp8
membership:
  peers: [{ id: n1, control: "10.0.0.1:7000", capacity: 1GiB }, { id: n2, control: "10.0.0.2:7000", capacity: 2GiB }]
  epoch: 5
  endpoints: ["e1:2379", "[::1]:2379"]
  lease: 10s
  user: u
  password_file: p
  tls: { ca: ca.pem }
replicas: 2
store: { high_watermark: 0.8, low_watermark: 0.5, lease_default: 5m }
session: { ttl: 10s }
drain: { timeout: 0s }
metrics: { listen: off }
log: { level: debug, format: json }
)");
  CHECK(config.control.listen == "[::]:7000");
  REQUIRE(config.control.tls.has_value());
  CHECK(config.control.tls->key_path == "b.pem");
  CHECK(config.data.transports == std::vector<std::string>{"tcp", "shm"});
  REQUIRE(config.data.lanes.size() == 2);
  CHECK(config.data.lanes[0].device == Device{DeviceKind::kCuda, 1});
  CHECK(config.data.lanes[1].threads == 4);
  CHECK(config.data.lanes[1].cpus == std::vector<uint32_t>{2, 3});
  CHECK(config.data.lane.idle == LaneIdle::kPoll);
  CHECK(config.data.lane.spin_us == 2000);
  CHECK(config.data.limits.inflight_bytes_per_session == 64 * kMiB);
  CHECK(config.data.limits.chunks == 9);
  CHECK(config.data.liveness.dead_ms == 1000);
  CHECK(config.model.rope.theta == 50000);
  CHECK_FALSE(config.model.rope.interleaved);
  CHECK(config.record == RecordFormat::kFp8);
  REQUIRE(config.membership.peers.size() == 2);
  CHECK(config.membership.peers[1].capacity_bytes == 2 * kGiB);
  CHECK(config.membership.epoch == 5);
  CHECK(config.membership.endpoints == std::vector<std::string>{"e1:2379", "[::1]:2379"});
  CHECK(config.membership.lease_ms == 10'000);
  CHECK(config.membership.user == "u");
  CHECK(config.membership.password_path == "p");
  REQUIRE(config.membership.tls.has_value());
  CHECK(config.membership.tls->ca_path == "ca.pem");
  CHECK(config.membership.tls->key_path.empty());
  CHECK(config.store.lease_default_ms == 300'000);
  CHECK(config.drain.timeout_ms == 0);
  CHECK(config.metrics.listen.empty());
  CHECK(config.log.format == LogFormat::kJson);
  CHECK(AdvertisedControlAddress(config) == "10.0.0.1:7000");
}

TEST_CASE("epochs begin with 1") {
  CHECK(Loaded(kMinimal).membership.epoch == 1);
  CHECK(FaultsWith("membership: { epoch: 0 }\n") ==
        "f:4:22: membership.epoch: '0' is out of range: it must be 1 to 9007199254740992\n");
}

TEST_CASE("a single transport needs no list") {
  CHECK(Loaded("node: {id: a}\ndata: {transports: tcp, lanes: [{device: cpu, cache: 1GiB}]}\n"
               "model: tiny\n")
            .data.transports == std::vector<std::string>{"tcp"});
}

TEST_CASE("every fault of a file is told at once, with its line and column") {
  CHECK(FaultsOf("nod: { id: a }\n"                           // 1
                 "data:\n"                                    // 2
                 "  transports: [tcp, 5%]\n"                  // 3
                 "  lanes:\n"                                 // 4
                 "    - { device: gpu, cache: 60GB }\n"       // 5
                 "    - { devise: cpu, cache: 1GiB }\n"       // 6
                 "  limits: { sessions: 0, chunks: many }\n"  // 7
                 "  limits: {}\n"                             // 8
                 "model: deepseek-v4\n"                       // 9
                 "record: int4\n"                             // 10
                 "replicas: \"2\"\n"                          // 11
                 "log: info\n"                                // 12
                 "drain: { timeout: [1s] }\n"                 // 13
                 "session: { ttl: }\n") ==                    // 14
        "f:1:1: unknown key 'nod' (did you mean 'node'?)\n"
        "f:1:1: node is missing\n"
        "f:3:21: data.transports[1]: '5%' is not the name of a UCX transport such as tcp, shm or "
        "rc\n"
        "f:5:17: data.lanes[0].device: 'gpu' is not a device: cpu, or cuda:N such as cuda:0\n"
        "f:5:29: data.lanes[0].cache: '60GB' is not a size such as 512MiB or 60GiB\n"
        "f:6:7: data.lanes[1].device is missing\n"
        "f:6:9: unknown key 'devise' in data.lanes[1] (did you mean 'device'?)\n"
        "f:7:23: data.limits.sessions: '0' is out of range: it must be 1 to 16777216\n"
        "f:7:34: data.limits.chunks: 'many' is not a whole number\n"
        "f:8:3: duplicate key 'data.limits', first on line 7\n"
        "f:9:8: model: no preset 'deepseek-v4' (did you mean 'deepseek-v3'?); there are "
        "deepseek-v2-lite, deepseek-v3, deepseek-v3.2, glm-5, kimi-k2, kimi-k2-0905, tiny\n"
        "f:10:9: record: 'int4' is not one of bf16, fp8\n"
        "f:11:11: replicas: '2' is in quotes: write it without\n"
        "f:12:6: log: is a single value, not a map of keys\n"
        "f:13:19: drain.timeout: is a list, not a single value\n"
        "f:14:17: session.ttl: has no value\n");
}

TEST_CASE("a key in the wrong place is told where it belongs") {
  CHECK(FaultsWith("lanes: []\n") == "f:4:1: unknown key 'lanes' (did you mean data.lanes?)\n");
  CHECK(FaultsWith("cache: 1GiB\n") ==
        "f:4:1: unknown key 'cache' (did you mean data.lanes[].cache?)\n");
  // More than one place has it.
  CHECK(FaultsWith("id: x\n") == "f:4:1: unknown key 'id'\n");
  CHECK(FaultsWith("zzz: x\n") == "f:4:1: unknown key 'zzz'\n");
}

TEST_CASE("what is required and missing is told at the map that lacks it") {
  CHECK(FaultsOf("log: {}\n") ==
        "f:1:1: node is missing\n"
        "f:1:1: data is missing\n"
        "f:1:1: model is missing\n");
  CHECK(FaultsOf("node: {}\ndata:\n  transports: auto\nmodel: tiny\n") ==
        "f:1:7: node.id is missing\n"
        "f:3:3: data.lanes is missing\n");
  CHECK(FaultsWith("control: { tls: { cert: a } }\n") ==
        "f:4:17: control.tls.key is missing\n"
        "f:4:17: control.tls.ca is missing\n");
}

TEST_CASE("lists have bounds, and elements of one kind") {
  CHECK(FaultsOf("node: {id: a}\nmodel: tiny\ndata: { lanes: [] }\n") ==
        "f:3:16: data.lanes: has 0 elements; it must have 1 to 64\n");
  CHECK(FaultsOf("node: {id: a}\nmodel: tiny\ndata: { lanes: cpu }\n") ==
        "f:3:16: data.lanes: is a single value, not a list\n");
  CHECK(FaultsOf("node: {id: a}\nmodel: tiny\ndata: { lanes: [cpu] }\n") ==
        "f:3:17: data.lanes[0]: is a single value, not a map of keys\n");
}

TEST_CASE("keys that are not text are faults") {
  CHECK(FaultsWith("[a, b]: c\n") == "f:4:1: the file: a key that is a list\n");
}

TEST_CASE("files that hold no configuration are refused") {
  for (const char* text : {"", "\n\n", "# only a comment\n", "---\n...\n", "~\n"}) {
    CHECK(FaultsOf(text) == "f:1:1: the file has no keys\n");
  }
  CHECK(FaultsOf("just text\n") == "f:1:1: the file: is a single value, not a map of keys\n");
  CHECK(FaultsOf("- a\n- b\n") == "f:1:1: the file: is a list, not a map of keys\n");
  CHECK(FaultsOf(std::string(kMinimal) + "---\nlog: {}\n").find("f:4:1: this belongs to no key") !=
        std::string::npos);
}

TEST_CASE("what follows the one document is not passed over") {
  CHECK(FaultsOf("{ node: { id: a } }\nmodel: tiny\n")
            .find("f:2:1: this belongs to no key of the one YAML document\n") != std::string::npos);
  CHECK(FaultsOf(", node: { id: a }\n")
            .find("f:1:1: this belongs to no key of the one YAML document\n") != std::string::npos);
}

TEST_CASE("YAML that does not parse is a fault where the parser stopped") {
  CHECK(FaultsOf("node: { id: a\n").find("f:1:14: not YAML: ") == 0);
  CHECK(FaultsOf("node: [a}\n").find("f:1:9: not YAML: ") == 0);
  CHECK(FaultsOf("a: 1\n b: 2\n").find("f:2:3: not YAML: ") == 0);
  CHECK(FaultsOf("a: *nowhere\n").find("f:1:4: not YAML: ") == 0);
  CHECK(FaultsOf("a: \"open\n").find("f:1:9: not YAML: ") == 0);
  CHECK(FaultsOf("a: 'open\nb: c\n\n").find("f:2:5: not YAML: ") == 0);
}

TEST_CASE("tabs and other bytes that YAML cannot hold are told before anything else") {
  CHECK(FaultsOf("node:\n\tid: a\n") == "f:2:1: a tab indents this line: YAML wants spaces\n");
  CHECK(FaultsOf("node: { id: \xff }\n") == "f:1:13: byte 0xff is not UTF-8\n");
}

TEST_CASE("depth, aliases to oneself and great length do no harm") {
  CHECK_FALSE(LoadConfig(std::string(100'000, '['), "f").ok());
  CHECK_FALSE(LoadConfig("a: &a { b: *a }\nnode: *a\n", "f").ok());
  CHECK_FALSE(LoadConfig("data: &a { lanes: [*a, *a] }\n", "f").ok());
  CHECK(FaultsOf(std::string(kMaxConfigBytes + 1, '#')) ==
        "f:1:1: the file has 1048577 bytes; at most 1048576 are allowed\n");
}

TEST_CASE("an anchor may stand for a value that is used again") {
  const Config config = Loaded(
      "node: {id: a}\nmodel: tiny\ndata:\n  lanes:\n"
      "    - { device: cpu, cache: &size 2GiB }\n    - { device: cpu, cache: *size }\n");
  CHECK(TotalCacheBytes(config) == 4 * kGiB);
}

TEST_CASE("a model map may start from a preset, and what it gives replaces the preset's") {
  const std::string base = "node: {id: a}\ndata: {lanes: [{device: cpu, cache: 1GiB}]}\n";
  const Config kimi = Loaded(
      base + "model: { layers: 62, preset: kimi-k2, rope_parameters: { yarn_factor: 64 } }\n");
  CHECK(kimi.model.name == "kimi-k2");
  CHECK(kimi.model.layers == 62);
  CHECK(kimi.model.rope.theta == 50000);
  CHECK(kimi.model.rope.yarn_factor == 64);
  CHECK(kimi.model.softmax_scale == Approx(0.144680).epsilon(1e-5));  // follows the factor
  CHECK(FaultsOf(base + "model: { preset: kimi }\n").find("f:3:18: model.preset: no preset") == 0);
  CHECK(FaultsOf(base + "model: { latent: 512 }\n") ==
        "f:3:8: model.name is missing\n"
        "f:3:8: model.layers is missing\n"
        "f:3:8: model.heads is missing\n");
  CHECK(FaultsOf(base + "model: { preset: tiny, preset: tiny, layer: 1 }\n") ==
        "f:3:24: duplicate key 'model.preset', first on line 3\n"
        "f:3:38: unknown key 'layer' in model (did you mean 'layers'?)\n");
  CHECK(FaultsOf(base + "model: [tiny]\n") == "f:3:8: model: is a list, not a single value\n");
  CHECK(FaultsOf(base + "model:\n").find("model: has no value\n") != std::string::npos);
}

TEST_CASE("a model's softmax scale is by rule unless it is given") {
  const std::string base =
      "node: {id: a}\ndata: {lanes: [{device: cpu, cache: 1GiB}]}\n"
      "model: { name: m, layers: 1, heads: 1, nope: 192";
  CHECK(Loaded(base + " }\n").model.softmax_scale == 0.0625);
  CHECK(Loaded(base + ", softmax_scale: 0.5 }\n").model.softmax_scale == 0.5);
}

TEST_CASE("the status of faults holds a line for each") {
  CHECK(LoadConfig(kMinimal, "f").status().ok());
  const absl::Status status = LoadConfig("node: {}\nmodel: x\n", "f.yaml").status();
  CHECK(status.code() == absl::StatusCode::kInvalidArgument);
  CHECK(std::string(status.message()).find("f.yaml:1:1: data is missing\nf.yaml:1:7: ") == 0);
}

TEST_CASE("a file is loaded by its path, and one that cannot be read says why") {
  const std::string path = std::string(std::getenv("TEST_TMPDIR")) + "/minimal.yaml";
  std::ofstream(path) << kMinimal;
  CHECK(LoadConfigFile(path).config == Loaded(kMinimal));

  const ConfigOrFaults missing = LoadConfigFile("/no/such/file.yaml");
  REQUIRE(missing.faults.size() == 1);
  CHECK(ToString(missing.faults[0]) ==
        "/no/such/file.yaml:1:1: cannot read the file: No such file or directory");
  const ConfigOrFaults folder = LoadConfigFile(std::getenv("TEST_TMPDIR"));
  REQUIRE(folder.faults.size() == 1);
  CHECK(folder.faults[0].message == "cannot read the file: Is a directory");
}

}  // namespace
}  // namespace latentd
