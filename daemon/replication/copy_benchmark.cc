// How fast a node that joins copies: two daemons in two processes of this machine, DeepSeek-V3's
// geometry, chunks of 256 tokens; and how fast that is beside one stream of `ucx_perftest` over the
// same transport. Each round measures all of it, one after the other: the stream, the copy of so many
// MiB, and the copy of nothing, which is what the 65,536 slots alone take. docs/performance.md.
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "client/client.h"
#include "config/loader.h"
#include "daemon/process/log.h"
#include "daemon/process/server.h"
#include "daemon/replication/test_membership.h"
#include "routing/chunk_id.h"
#include "routing/placement.h"
#include "tests/cluster/eventually.h"
#include "tests/cluster/loopback.h"
#include "tests/cluster/process.h"
#include "tools/command_line.h"
#include "tools/statistics.h"
#include "tools/text_table.h"
#include "transport/record_checksum.h"

namespace latentd {
namespace {

constexpr uint32_t kTokens = 256;
constexpr double kMiB = 1 << 20;

struct Flags {
  uint64_t mib = 1024;
  std::string transport = "tcp";
  int parallel = 4;
  int rounds = 3;
  std::string perftest;
  std::string json;
};

// What one copy took.
struct Copied {
  uint64_t bytes = 0;
  double seconds = 0;
};

template <typename T>
T ValueOrDie(absl::StatusOr<T> value) {
  if (value.ok()) return *std::move(value);
  std::cerr << value.status() << "\n";
  std::exit(1);
}

struct Daemon {
  std::shared_ptr<TestMember> member = std::make_shared<TestMember>();
  std::unique_ptr<Server> server;
  Replication* replication = nullptr;

  Daemon(const std::string& id, uint64_t mib, const std::string& transport, int parallel) {
    StartLogging(LogSeverity::kWarn, LogStyle::kText);
    ConfigOrFaults loaded =
        LoadConfig(absl::StrCat("node: { id: ", id, ", advertise: 127.0.0.1 }\n",
                                "control: { listen: \"127.0.0.1:0\" }\n", "data: { transports: [",
                                transport, "], lanes: [{ device: cpu, cache: ", mib + mib / 4 + 64,
                                "MiB }] }\n", "model: deepseek-v3\nmetrics: { listen: off }\n",
                                "migration: { parallel: ", parallel, " }\n",
                                "calibration: { at_start: false }\n"),
                   "benchmark");
    if (!loaded.ok()) {
      std::cerr << ToString(loaded.faults);
      std::exit(1);
    }
    const Generation generation = DrawGeneration();
    ServerParts parts =
        ValueOrDie(MakeParts(loaded.config, generation, std::make_unique<TestMembership>(member)));
    replication = parts.replication.get();
    server = ValueOrDie(Server::Start(loaded.config, generation, std::move(parts)));
  }
};

TablePtr Next(const TablePtr& previous, std::vector<NodeInfo> nodes) {
  return ValueOrDie(
      NextTable(previous, {std::move(nodes), 2, [](NodeIndex, Slot, Epoch) { return false; }}));
}

// One line each way: "node address generation capacity".
void Write(FILE* to, const NodeInfo& node) {
  std::fprintf(to, "%s %s %llu %llu\n", node.id.c_str(), node.control_address.c_str(),
               static_cast<unsigned long long>(ToInt(node.generation)),
               static_cast<unsigned long long>(node.capacity_bytes));
  std::fflush(to);
}

NodeInfo Read(FILE* from) {
  char id[64], address[128];
  unsigned long long generation = 0, capacity = 0;
  if (std::fscanf(from, "%63s %127s %llu %llu", id, address, &generation, &capacity) != 4) {
    std::exit(1);
  }
  return {.id = id,
          .control_address = address,
          .generation = Generation{generation},
          .capacity_bytes = capacity};
}

void Fill(const Daemon& daemon, uint64_t mib) {
  auto client = ValueOrDie(Client::Connect({.endpoints = {daemon.server->control_address()}}));
  const Layout& layout = client->layout();
  std::vector<std::byte> records(uint64_t{layout.layers} * kTokens * layout.record_bytes());
  for (size_t i = 0; i < records.size(); ++i) records[i] = std::byte(i % 60);
  const uint64_t checksum =
      RangeChecksum(records, layout.record_bytes(), 0, layout.layers, 0, kTokens);
  for (uint64_t i = 0; i * records.size() < mib << 20; ++i) {
    const ChunkId id = PlaceChunkId(Slot{static_cast<uint16_t>(i * 997)}, {.hi = i, .lo = i + 1});
    absl::Status status =
        client->Publish({.chunk = id, .layers = layout.layers, .tokens = kTokens}, records);
    if (status.ok()) status = client->Seal(id, kTokens, checksum);
    if (!status.ok()) {
      std::cerr << status << "\n";
      std::exit(1);
    }
  }
}

// The process that has the chunks.
int Source(FILE* in, FILE* out, uint64_t mib, const std::string& transport, int parallel) {
  Daemon daemon("node-a", mib, transport, parallel);
  const TablePtr first = Next(nullptr, {daemon.member->self});
  daemon.member->Deliver(first);
  Fill(daemon, mib);
  Write(out, daemon.member->self);
  const NodeInfo other = Read(in);
  daemon.member->Deliver(Next(first, {daemon.member->self, other}));
  Write(out, daemon.member->self);
  std::fgetc(in);
  return std::fgetc(in) == EOF ? 0 : 1;
}

// The process that joins.
void Join(FILE* in, FILE* out, FILE* result, const Flags& flags, uint64_t mib) {
  Daemon daemon("node-b", mib, flags.transport, flags.parallel);
  const NodeInfo source = Read(in);
  const TablePtr first = Next(nullptr, {source});
  Write(out, daemon.member->self);
  Read(in);
  const auto claimed = [&] {
    const std::lock_guard<std::mutex> lock(daemon.member->mutex);
    return daemon.member->claims.size();
  };
  const absl::Time start = absl::Now();
  daemon.member->Deliver(Next(first, {source, daemon.member->self}));
  while (claimed() < kSlotCount) absl::SleepFor(absl::Milliseconds(1));
  const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
  absl::SleepFor(absl::Milliseconds(500));  // until that is noted
  std::fprintf(result, "%llu %f\n",
               static_cast<unsigned long long>(daemon.replication->status().sync.counts.bytes),
               seconds);
  std::fflush(result);
}

struct Pipe {
  int ends[2];
  Pipe() {
    if (pipe(ends) != 0) std::exit(1);
  }
  FILE* reader() { return fdopen(ends[0], "r"); }
  FILE* writer() { return fdopen(ends[1], "w"); }
};

// Both daemons are children: whoever forks has no threads.
Copied Copy(const Flags& flags, uint64_t mib) {
  Pipe to_source, to_joiner, result;
  const pid_t source = fork();
  if (source == 0) {
    close(to_source.ends[1]);
    _exit(Source(to_source.reader(), to_joiner.writer(), mib, flags.transport, flags.parallel));
  }
  const pid_t joiner = fork();
  if (joiner == 0) {
    close(to_source.ends[0]);
    close(to_joiner.ends[1]);
    Join(to_joiner.reader(), to_source.writer(), result.writer(), flags, mib);
    _exit(0);
  }
  for (const int end : {to_source.ends[0], to_source.ends[1], to_joiner.ends[0], to_joiner.ends[1],
                        result.ends[1]}) {
    close(end);
  }
  FILE* reader = result.reader();
  unsigned long long bytes = 0;
  double seconds = 0;
  const bool told = std::fscanf(reader, "%llu %lf", &bytes, &seconds) == 2;
  std::fclose(reader);
  waitpid(joiner, nullptr, 0);
  waitpid(source, nullptr, 0);
  if (!told || bytes < mib << 20) {
    std::cerr << "the copy failed\n";
    std::exit(kExitFailed);
  }
  return {.bytes = bytes, .seconds = seconds};
}

std::string FindPerftest(const Flags& flags) {
  if (!flags.perftest.empty()) return flags.perftest;
  if (const char* named = std::getenv("LATENTD_PERFTEST"); named != nullptr) return named;
  const auto beside =
      std::filesystem::read_symlink("/proc/self/exe").parent_path() / "ucx_perftest";
  return std::filesystem::exists(beside) ? beside.string() : "";
}

// MiB/s of one stream of active messages of 4 MiB, with the settings of transport/ucx_config.cc.
std::optional<double> Stream(const std::string& perftest, const std::string& transport) {
  const std::vector<std::string> argv = {"/usr/bin/env",
                                         "UCX_TLS=" + transport,
                                         "UCX_NET_DEVICES=lo",
                                         "UCX_TCP_TX_SEG_SIZE=256K",
                                         "UCX_TCP_RX_SEG_SIZE=256K",
                                         perftest,
                                         "-t",
                                         "ucp_am_bw",
                                         "-s",
                                         "4194304",
                                         "-n",
                                         "500",
                                         "-w",
                                         "20",
                                         "-p",
                                         absl::StrCat(testing::FreePorts(1)[0])};
  testing::Process server(argv, testing::FreshFolder("perftest") + "/server");
  std::vector<std::string> client = argv;
  client.push_back("127.0.0.1");
  testing::CommandResult ended;
  // Until the server listens.
  testing::Eventually(absl::Seconds(5), [&] {
    ended = testing::RunCommand(client, absl::Seconds(60));
    return ended.end.exit_code == 0;
  });
  for (const absl::string_view line : absl::StrSplit(ended.out, '\n')) {
    const std::vector<absl::string_view> words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    double mib_per_second = 0;
    // Final: messages, three latencies, bandwidth on average and overall, ...
    if (words.size() > 6 && words[0] == "Final:" && absl::SimpleAtod(words[6], &mib_per_second)) {
      return mib_per_second;
    }
  }
  std::cerr << "ucx_perftest says no bandwidth: " << ended.out << ended.err << "\n";
  return std::nullopt;
}

int Run(const Flags& flags) {
  const std::string perftest = FindPerftest(flags);
  if (perftest.empty()) std::cerr << "no ucx_perftest (--perftest): the copies alone\n";
  TextTable table({">round", ">stream MiB/s", ">MiB copied", ">seconds", ">of these the slots",
                   ">MiB/s", ">/ stream", ">without the slots MiB/s", ">/ stream"});
  std::vector<double> ratios, net_ratios;
  nlohmann::json rounds = nlohmann::json::array();
  for (int round = 1; round <= flags.rounds; ++round) {
    std::cerr << "round " << round << " of " << flags.rounds << std::endl;
    const auto stream = perftest.empty() ? std::nullopt : Stream(perftest, flags.transport);
    const Copied empty = Copy(flags, 0);
    const Copied full = Copy(flags, flags.mib);
    const double mib = static_cast<double>(full.bytes) / kMiB;
    const double rate = mib / full.seconds;
    const double net_rate = mib / std::max(full.seconds - empty.seconds, 1e-3);
    table.Add({absl::StrCat(round), stream ? Fixed(*stream, 0) : "", Fixed(mib, 0),
               Fixed(full.seconds, 2), Fixed(empty.seconds, 2), Fixed(rate, 0),
               stream ? Fixed(rate / *stream, 2) : "", Fixed(net_rate, 0),
               stream ? Fixed(net_rate / *stream, 2) : ""});
    rounds.push_back({{"mib", mib},
                      {"seconds", full.seconds},
                      {"slots_seconds", empty.seconds},
                      {"mib_per_s", rate},
                      {"net_mib_per_s", net_rate}});
    if (!stream) continue;
    rounds.back()["stream_mib_per_s"] = *stream;
    ratios.push_back(rate / *stream);
    net_ratios.push_back(net_rate / *stream);
  }
  std::cout << table.ToString();
  nlohmann::json report = {{"benchmark", "copy"},
                           {"transport", flags.transport},
                           {"parallel", flags.parallel},
                           {"rounds", rounds}};
  if (!ratios.empty()) {
    report["median_ratio"] = PercentilesOf(ratios).p50;
    report["median_net_ratio"] = PercentilesOf(net_ratios).p50;
    std::cout << "\nmedian of " << ratios.size()
              << " rounds, copy / stream: " << Fixed(PercentilesOf(ratios).p50, 2)
              << "; without what the slots alone take, which goes on beside the copying, at most "
              << Fixed(PercentilesOf(net_ratios).p50, 2) << " (goal: at least 0.70)\n";
  }
  if (!flags.json.empty()) testing::WriteFile(flags.json, report.dump(2) + "\n");
  return kExitOk;
}

}  // namespace
}  // namespace latentd

int main(int argc, char** argv) {
  latentd::Flags flags;
  CLI::App app("How fast a node that joins copies, beside one stream of ucx_perftest.",
               "copy_benchmark");
  latentd::SetUp(app);
  app.add_option("--mib", flags.mib, "to copy")
      ->check(latentd::WholeNumber(1, 1 << 16))
      ->capture_default_str();
  app.add_option("--transport", flags.transport, "UCX's")->capture_default_str();
  app.add_option("--parallel", flags.parallel, "ranges on their way: migration.parallel")
      ->check(latentd::WholeNumber(1, 64))
      ->capture_default_str();
  app.add_option("--rounds", flags.rounds, "stream and copies in turn")
      ->check(latentd::WholeNumber(1, 20))
      ->capture_default_str();
  app.add_option("--perftest", flags.perftest,
                 "ucx_perftest; else $LATENTD_PERFTEST, or beside this program")
      ->type_name("FILE");
  app.add_option("--json", flags.json, "write everything that was measured there")
      ->type_name("FILE");
  if (const auto code = latentd::ParseCommandLine(app, argc, argv)) return *code;
  return latentd::Run(flags);
}
