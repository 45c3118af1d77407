// latentctl and latent-bench as an operator runs them: against a cluster, and against nothing.
#include <catch2/catch.hpp>
#include <csignal>
#include <cstring>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "tests/cluster/cluster.h"
#include "tests/cluster/eventually.h"
#include "tests/cluster/loopback.h"
#include "tests/cluster/process.h"
#include "tests/cluster/raw_calls.h"

namespace latentd::testing {
namespace {

using Catch::Matchers::Contains;
using nlohmann::json;

CommandResult Latentctl(const std::string& endpoint, std::vector<std::string> arguments) {
  std::vector<std::string> argv = {Runfile("tools/latentctl"), "--endpoint", endpoint};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  return RunCommand(argv, Scaled(absl::Seconds(20)));
}

json LatentctlJson(const std::string& endpoint, const std::string& command) {
  const CommandResult result = Latentctl(endpoint, {"--output", "json", command});
  INFO(command << ": " << result.err);
  REQUIRE(result.end.exit_code == 0);
  return json::parse(result.out);
}

TEST_CASE("every command of latentctl answers as a table and as JSON") {
  Cluster cluster({.nodes = 2});
  for (const char* command : {"status", "nodes", "table", "chunks", "drain", "resume"}) {
    const CommandResult table = Latentctl(cluster.endpoint(), {command});
    INFO(command << ": " << table.out << table.err);
    CHECK(table.end.exit_code == 0);
    CHECK_FALSE(table.out.empty());
    CHECK_FALSE(LatentctlJson(cluster.endpoint(), command).is_null());
  }
  const CommandResult status = Latentctl(cluster.endpoint(), {"status"});
  CHECK_THAT(status.out, Contains("node-1"));
  const CommandResult nodes = Latentctl(cluster.endpoint(), {"nodes"});
  CHECK_THAT(nodes.out, Contains("node-1") && Contains("node-2"));
}

TEST_CASE("the nodes of a static list are shown as they are, not as they are listed") {
  Cluster cluster({.nodes = 2});
  const auto peer = [&] { return LatentctlJson(cluster.endpoint(), "nodes")["nodes"][1]; };
  const auto becomes = [&](const char* state) {
    return Eventually(Scaled(absl::Seconds(20)), [&] { return peer()["state"] == state; });
  };
  REQUIRE(becomes("active"));
  CHECK(peer()["id"] == "node-2");
  CHECK(peer()["generation"] == LatentctlJson(cluster.node(1).endpoint(), "status")["generation"]);
  CHECK(peer()["version"] == LatentctlJson(cluster.node(1).endpoint(), "status")["version"]);
  CHECK(peer()["trouble"] == "");
  REQUIRE(Latentctl(cluster.node(1).endpoint(), {"drain"}).end.exit_code == 0);
  REQUIRE(becomes("draining"));
  cluster.node(1).Kill();
  REQUIRE(becomes("unreachable"));
  CHECK(peer()["trouble"] != "");
  CHECK_THAT(cluster.node(0).Log(), Contains("peer unreachable peer=node-2"));
  cluster.node(1).Restart();
  REQUIRE(becomes("active"));
  CHECK_THAT(cluster.node(0).Log(), Contains("peer restarted peer=node-2"));
}

TEST_CASE("latentctl shows what a daemon holds") {
  Cluster cluster;
  RawRequester requester(cluster.endpoint());
  std::mt19937_64 random(3);
  const ChunkData chunk =
      RandomChunk({0xabcd'0000'0000'0000, 5}, 10, 2, RecordFormat::kBf16, random);
  REQUIRE(Publish(requester, chunk, WholeOf(chunk))->text() == "");
  REQUIRE(Seal(requester, chunk)->text() == "");
  CHECK_THAT(Latentctl(cluster.endpoint(), {"chunks"}).out, Contains(ToString(chunk.id)));
  CHECK_THAT(LatentctlJson(cluster.endpoint(), "chunks").dump(), Contains(ToString(chunk.id)));
}

TEST_CASE("drain and resume show in the status") {
  Cluster cluster;
  REQUIRE(Latentctl(cluster.endpoint(), {"drain"}).end.exit_code == 0);
  CHECK(cluster.node(0).Status().state() == v1::NODE_STATE_DRAINING);
  REQUIRE(Latentctl(cluster.endpoint(), {"resume"}).end.exit_code == 0);
  CHECK(cluster.node(0).Status().state() == v1::NODE_STATE_ACTIVE);
}

TEST_CASE("another node than the one at the endpoint drains and resumes by its id") {
  Cluster cluster({.nodes = 2});
  REQUIRE(Latentctl(cluster.endpoint(), {"drain", "node-2"}).end.exit_code == 0);
  CHECK(cluster.node(0).Status().state() == v1::NODE_STATE_ACTIVE);
  CHECK(cluster.node(1).Status().state() == v1::NODE_STATE_DRAINING);
  REQUIRE(Latentctl(cluster.endpoint(), {"resume", "node-2"}).end.exit_code == 0);
  CHECK(cluster.node(1).Status().state() == v1::NODE_STATE_ACTIVE);
  const CommandResult nobody = Latentctl(cluster.endpoint(), {"resume", "node-9"});
  CHECK(nobody.end.exit_code == 1);
  CHECK_THAT(nobody.err, Contains("node-9") && Contains("node-1, node-2"));
}

TEST_CASE("latentctl says whom it could not reach") {
  const std::string nobody = absl::StrCat("127.0.0.1:", FreePorts(1)[0]);
  for (const char* command : {"status", "nodes", "table", "chunks", "drain", "resume"}) {
    const CommandResult result = Latentctl(nobody, {command});
    INFO(command);
    CHECK_FALSE(result.timed_out);
    CHECK(result.end.exit_code > 0);
    CHECK_THAT(result.err, Contains(nobody));
  }
}

TEST_CASE("commands that do not exist are refused with the usage") {
  CHECK(Latentctl("127.0.0.1:1", {"frobnicate"}).end.exit_code > 0);
  CHECK(RunCommand({Runfile("tools/latentctl"), "--help"}, absl::Seconds(20)).end.exit_code == 0);
  CHECK(RunCommand({Runfile("tools/latent-bench"), "--help"}, absl::Seconds(20)).end.exit_code ==
        0);
}

TEST_CASE("what is wrong on a command line is named, with exit code 2") {
  struct Case {
    std::vector<std::string> arguments;
    const char* named;
  };
  const auto ctl = Runfile("tools/latentctl");
  const auto bench = Runfile("tools/latent-bench");
  for (const Case& c : std::vector<Case>{
           {{ctl, "--endpoint", "127.0.0.1:99999", "status"}, "'127.0.0.1:99999'"},
           {{ctl, "--endpoint", "127.0.0.1", "status"}, "'127.0.0.1'"},
           {{ctl, "--endpoint", "", "status"}, "''"},
           {{bench, "--endpoint", "127.0.0.1:0", "latency"}, "'127.0.0.1:0'"},
           {{ctl, "--endpoint", "127.0.0.1:1", "bogus"}, "unknown command 'bogus'"},
           {{ctl, "bogus"}, "unknown command 'bogus'"},
           {{ctl}, "a command is missing: one of status,"},
           {{ctl, "--endpoint", "127.0.0.1:1", "chunks", "--limit", "0"}, "--limit: '0'"},
           {{ctl, "--endpoint", "127.0.0.1:1", "--timeout", "0", "status"}, "--timeout: '0'"},
           {{ctl, "--endpoint", "127.0.0.1:1", "drain", "--wait-timeout", "3"}, "--wait"},
           {{ctl, "--endpoint", "127.0.0.1:1", "explain"}, "--chunks"},
           {{ctl, "--endpoint", "127.0.0.1:1", "explain", "--chunks", "ab", "--rows", "0"}, "'0'"},
           {{ctl, "--endpoint", "127.0.0.1:1", "explain", "--chunks", "ab", "--steps", "0"}, "'0'"},
           {{bench, "--endpoint", "127.0.0.1:1", "fanin", "--rows", "0"}, "--rows: '0'"},
           {{bench, "--endpoint", "127.0.0.1:1", "frontier", "--steps", "0"}, "--steps: '0'"},
           {{bench, "--endpoint", "127.0.0.1:1", "model-check", "--holders", "0"}, "--holders"},
           {{bench, "--endpoint", "127.0.0.1:1", "latency", "--requests", "abc"}, "'abc'"},
           {{bench, "--endpoint", "127.0.0.1:1", "latency", "--warmup", "-1"}, "'-1'"}}) {
    const CommandResult result = RunCommand(c.arguments, Scaled(absl::Seconds(20)));
    INFO(result.out << result.err);
    CHECK(result.end.exit_code == 2);
    CHECK_THAT(result.err, Contains(c.named));
    CHECK(result.err.size() < 250);
  }
}

TEST_CASE("a command's help shows the options that all commands share; versions need no endpoint") {
  for (const char* tool : {"tools/latentctl", "tools/latent-bench"}) {
    const char* command = tool == std::string("tools/latentctl") ? "drain" : "latency";
    const auto help = RunCommand({Runfile(tool), command, "--help"}, Scaled(absl::Seconds(20)));
    CHECK(help.end.exit_code == 0);
    CHECK_THAT(help.out, Contains("--endpoint") && Contains("--tls-ca"));
    const auto version = RunCommand({Runfile(tool), "--version"}, Scaled(absl::Seconds(20)));
    CHECK(version.end.exit_code == 0);
    CHECK_FALSE(version.out.empty());
  }
}

// A copy of the trace in which one recorded answer is another.
std::string SpoiltTrace(const std::string& path) {
  std::string content = ReadFile(path);
  uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, content.data(), sizeof(header_bytes));
  const json header = json::parse(content.substr(8, header_bytes));
  const uint64_t at = 8 + header_bytes +
                      header["layer1.out_latent"]["data_offsets"][0].get<uint64_t>() +
                      4 * uint64_t{700};
  const float wrong = 3;
  std::memcpy(content.data() + at, &wrong, sizeof(wrong));
  const std::string copy = FreshFolder("trace") + "/spoilt.safetensors";
  WriteFile(copy, content);
  return copy;
}

TEST_CASE("latent-bench exits with 1 when an answer is wrong, and says how many") {
  Cluster cluster;
  const CommandResult result =
      RunCommand({Runfile("tools/latent-bench"), "--endpoint", cluster.endpoint(), "replay",
                  "--trace", SpoiltTrace(Runfile("tests/data/mla-h16-tiny.safetensors"))},
                 Scaled(absl::Seconds(30)));
  INFO(result.out << result.err);
  CHECK(result.end.exit_code == 1);
  CHECK_THAT(result.out, Contains("WRONG"));
}

TEST_CASE("latent-bench measures latency and the wire") {
  Cluster cluster({.nodes = 2});
  for (const char* command : {"latency", "transport"}) {
    const std::string file = FreshFolder("bench") + "/out.json";
    const CommandResult result = RunCommand(
        {Runfile("tools/latent-bench"), "--endpoint", cluster.endpoint(), "--json", file, command},
        Scaled(absl::Seconds(30)));
    INFO(command << ": " << result.out << result.err);
    CHECK(result.end.exit_code == 0);
    CHECK_FALSE(json::parse(ReadFile(file)).empty());
  }
}

TEST_CASE("latent-bench refuses a load beyond the daemon's limits, by flag and limit") {
  Cluster cluster;
  for (const auto& [flag, limit] : {std::pair{"--query-tokens", "rows_per_request"},
                                    {"--concurrency", "inflight_per_session"}}) {
    const CommandResult result = RunCommand({Runfile("tools/latent-bench"), "--endpoint",
                                             cluster.endpoint(), "latency", flag, "100000"},
                                            Scaled(absl::Seconds(20)));
    INFO(result.err);
    CHECK(result.end.exit_code == 1);
    CHECK_THAT(result.err, Contains(flag) && Contains("100000") && Contains(limit));
  }
}

TEST_CASE("latent-bench reports what it has when it is interrupted, and when the daemon goes") {
  Cluster cluster;
  const bool interrupt = GENERATE(true, false);
  Process bench(
      {Runfile("tools/latent-bench"), "--endpoint", cluster.endpoint(), "latency", "--heads", "1",
       "--tokens", "64", "--warmup", "0", "--requests", "10000000", "--duration", "3600"},
      FreshFolder("bench") + "/bench");
  const auto served = [&] { return cluster.node(0).Status().lanes(0).attend_requests() > 100; };
  REQUIRE(Eventually(Scaled(absl::Seconds(20)), served));
  if (interrupt) {
    bench.Signal(SIGINT);
  } else {
    REQUIRE(Latentctl(cluster.endpoint(), {"drain"}).end.exit_code == 0);
  }
  const auto end = bench.WaitForEnd(Scaled(absl::Seconds(20)));
  INFO(bench.Out() << bench.Err());
  REQUIRE(end.has_value());
  CHECK(end->exit_code == 1);
  CHECK_THAT(bench.Out(), Contains("queries/s") && Contains("as the caller sees it"));
  CHECK_THAT(bench.Err(), Contains(interrupt ? "interrupted" : "draining"));
}

json LatentBenchJson(const std::string& endpoint, const std::vector<std::string>& arguments) {
  const std::string file = FreshFolder("bench") + "/out.json";
  std::vector<std::string> argv = {
      Runfile("tools/latent-bench"), "--endpoint", endpoint, "--transports", "tcp", "--json", file};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  const CommandResult result = RunCommand(argv, Scaled(absl::Seconds(60)));
  INFO(result.out << result.err);
  REQUIRE(result.end.exit_code == 0);
  CHECK_FALSE(result.out.empty());
  return json::parse(ReadFile(file));
}

TEST_CASE("model-check predicts points that it did not fit, and checks the planner's choices") {
  Cluster cluster({.nodes = 2});
  const json report =
      LatentBenchJson(cluster.endpoint(), {"model-check", "--holders", "2", "--max-rows", "64",
                                           "--rounds", "1", "--requests", "2", "--warmup", "1"});
  for (const char* taken : {"medians", "quickest_tenth"}) {
    const json& one = report[taken];
    CHECK(one["points"].size() == 8);  // 16 and 32 rows, 2 numbers of tokens, 1 and 2 holders
    CHECK(one["points"][0]["measured_us"] > 0);
    CHECK(one["points"][0]["predicted_us"]["total"] > 0);
    CHECK(one["mean_error_16_rows"].is_number());
    CHECK(one["mean_error_512_rows"].is_null());
    CHECK(one["choices"].size() == 40);
  }
}

TEST_CASE("fanin and frontier draw what they measured") {
  Cluster cluster;
  const std::string folder = FreshFolder("pictures");
  const json fanin =
      LatentBenchJson(cluster.endpoint(), {"fanin", "--requesters", "4", "--tokens", "128",
                                           "--max-rows", "64", "--rounds", "1", "--requests", "4",
                                           "--warmup", "1", "--out", folder + "/fanin.svg"});
  CHECK(fanin["points"].size() == 3);
  CHECK(fanin["points"][2]["requesters"] == 4);
  CHECK(fanin["points"][2]["per_second"] > 0);
  LatentBenchJson(cluster.endpoint(),
                  {"frontier", "--steps", "4", "--prefill", "50", "--max-rows", "64", "--rounds",
                   "1", "--requests", "2", "--warmup", "1", "--out", folder + "/frontier.svg"});
  for (const char* picture : {"/fanin.svg", "/frontier.svg"}) {
    CHECK_THAT(ReadFile(folder + picture), Contains("<svg ") && Contains("</svg>"));
  }
}

TEST_CASE("explain gives every term of every way, and names what it could not know") {
  Cluster cluster({.nodes = 2});
  RawRequester requester(cluster.node(1).endpoint());  // the primary of slot 0
  std::mt19937_64 random(3);
  const ChunkData chunk = RandomChunk({1, 5}, 64, 2, RecordFormat::kBf16, random);
  REQUIRE(Publish(requester, chunk, WholeOf(chunk))->text() == "");
  REQUIRE(Seal(requester, chunk)->text() == "");
  const std::vector<std::string> arguments = {
      "explain", "--transports", "tcp",  "--chunks", ToString(chunk.id), "--rows", "16", "--steps",
      "8",       "--cache",      "64MiB"};
  const CommandResult shown = Latentctl(cluster.endpoint(), arguments);
  INFO(shown.out << shown.err);
  REQUIRE(shown.end.exit_code == 0);
  CHECK_THAT(shown.out, Contains("route node-2 probe") && Contains("fetch node-2 handshake") &&
                            Contains("us in all"));
  std::vector<std::string> as_json = {"--output", "json"};
  as_json.insert(as_json.end(), arguments.begin(), arguments.end());
  as_json.push_back("--calibrate");
  const json report = json::parse(Latentctl(cluster.endpoint(), as_json).out);
  REQUIRE(report["parts"].size() == 1);
  CHECK(report["parts"][0]["tokens"] == 64);
  const json& route = report["parts"][0]["alternatives"][0];
  CHECK(route["primitive"] == "route");
  CHECK(route["node"] == "node-2");
  CHECK(route["terms_us"]["compute"] > 0);
  CHECK(route["doubts"] == "");
  CHECK(report["steps"] == 8);

  const std::string unknown = ToString(ChunkId{2, 7});
  const CommandResult nobody = Latentctl(cluster.endpoint(), {"explain", "--chunks", unknown});
  CHECK(nobody.end.exit_code == 1);
  CHECK_THAT(nobody.err, Contains(unknown));
}

TEST_CASE("latent-bench tells what is in a trace without a daemon") {
  const auto result = RunCommand(
      {Runfile("tools/latent-bench"), "traces", Runfile("tests/data/mla-h16-tiny.safetensors")},
      Scaled(absl::Seconds(20)));
  CHECK(result.end.exit_code == 0);
  CHECK_THAT(result.out, Contains("mla-h16-tiny") && Contains("333"));
}

TEST_CASE("latent-bench says whom it could not reach and which file it could not read") {
  const std::string nobody = absl::StrCat("127.0.0.1:", FreePorts(1)[0]);
  const CommandResult unreachable =
      RunCommand({Runfile("tools/latent-bench"), "--endpoint", nobody, "replay", "--trace",
                  Runfile("tests/data/mla-h16-tiny.safetensors")},
                 Scaled(absl::Seconds(30)));
  CHECK_FALSE(unreachable.timed_out);
  CHECK(unreachable.end.exit_code > 0);
  CHECK_THAT(unreachable.err, Contains(nobody));

  Cluster cluster;
  const CommandResult unreadable =
      RunCommand({Runfile("tools/latent-bench"), "--endpoint", cluster.endpoint(), "replay",
                  "--trace", "/nonexistent.safetensors"},
                 Scaled(absl::Seconds(30)));
  CHECK(unreadable.end.exit_code > 0);
  CHECK_THAT(unreadable.err, Contains("/nonexistent.safetensors"));
}

}  // namespace
}  // namespace latentd::testing
