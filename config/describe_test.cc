#include "config/describe.h"

#include <catch2/catch.hpp>
#include <string>

#include "config/loader.h"
#include "config/presets.h"

namespace latentd {
namespace {

Config Loaded(const std::string& text) {
  const ConfigOrFaults loaded = LoadConfig(text, "f");
  CHECK(ToString(std::span(loaded.faults)) == "");
  return loaded.config;
}

TEST_CASE("what is described loads to the same configuration") {
  for (const std::string& name : PresetNames()) {
    const Config config = Loaded(
        "node: { id: a }\ndata: { lanes: [{ device: cpu, cache: 1GiB }] }\nmodel: " + name + "\n");
    CHECK(Loaded(Describe(config)) == config);
  }
}

TEST_CASE("a configuration in which everything is set is described in full") {
  const Config config = Loaded(R"(
node: { id: "null", advertise: "::1" }
control: { listen: "[::]:7000", tls: { cert: "a: #b", key: "'", ca: c.pem } }
data:
  transports: [tcp, shm]
  lanes: [{ device: cuda:1, cache: 12345678, threads: 0, cpus: [2, 3] }]
  lane: { idle: sleep, spin_us: 1234 }
  limits: { inflight_per_session: 3, inflight_bytes_per_session: 3MiB, inflight_per_lane: 5, inflight_bytes_per_lane: 7MiB, chunks_per_request: 11, rows_per_request: 13, work_per_request: 23456789012, sessions: 17, chunks: 19 }
  liveness: { ping_ms: 101, dead_ms: 2003 }
model: { name: "yes", layers: 2, heads: 4, latent: 128, rope: 32, nope: 16, value: 48, softmax_scale: 0.1,
         rope_parameters: { theta: 12345.678, interleaved: false, yarn_factor: 3.3, original_context: 5, mscale: 0.7, mscale_all_dim: 0.9, yarn_beta_fast: 31, yarn_beta_slow: 2 } }
record: fp8
membership:
  peers: [{ id: "null", control: "[::1]:7000", capacity: 3B }, { id: n2, control: "n2:7000", capacity: 2GiB }]
  epoch: 23
  endpoints: ["e:1", "[::1]:2"]
  cluster: "007"
  lease: 2500ms
  user: "true"
  password_file: "p #1"
  tls: { ca: a.pem, cert: b.pem, key: c.pem }
replicas: 2
store: { high_watermark: 0.123456789, low_watermark: 0.1, lease_default: 1m }
session: { ttl: 101ms }
drain: { timeout: 0s }
metrics: { listen: off }
log: { level: trace, format: json }
)");
  CHECK(config.node.id == "null");
  CHECK(Loaded(Describe(config)) == config);
}

TEST_CASE("a description is YAML that people read") {
  const std::string text = Describe(Loaded(
      "node: { id: a }\ndata: { lanes: [{ device: cpu, cache: 1GiB }] }\nmodel: deepseek-v3\n"));
  for (const char* line : {"node:\n  id: a\n  advertise: 127.0.0.1\n", "  transports: auto\n",
                           "    - device: cpu\n      cache: 1GiB\n", "\nrecord: bf16\n",
                           "    inflight_bytes_per_session: 256MiB\n", "  lease: 3s\n",
                           "  softmax_scale: 0.1352337788608801\n"}) {
    INFO(text);
    CHECK(text.find(line) != std::string::npos);
  }
  CHECK(text.back() == '\n');
}

}  // namespace
}  // namespace latentd
