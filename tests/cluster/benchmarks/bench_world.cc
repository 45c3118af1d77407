#include "tests/cluster/benchmarks/bench_world.h"

#include <algorithm>
#include <iostream>
#include <random>
#include <stdexcept>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "tests/cluster/frontend.h"
#include "tools/command_line.h"
#include "tools/statistics.h"
#include "tools/text_table.h"

namespace latentd::testing {
namespace {

constexpr uint32_t kLayers = 2;
constexpr absl::Duration kClosedLoop = absl::Seconds(3);
// What a request takes, in times of what it takes alone, once requests wait for each other.
constexpr double kSaturation = 4;
// A thread that is late to notice an answer has not broken the deadline.
constexpr absl::Duration kDeadlineSlack = absl::Milliseconds(100);

}  // namespace

void AddClusterFlags(CLI::App& app, BenchFlags* flags) {
  BenchClusterOptions& cluster = flags->cluster;
  app.add_option("--latentd", cluster.programs.latentd,
                 "the daemon; else $LATENTD_DAEMON, or beside this program")
      ->type_name("FILE");
  app.add_option("--etcd", cluster.programs.etcd,
                 "etcd's server; else $LATENTD_ETCD, beside this program, or /usr/bin/etcd")
      ->type_name("FILE");
  app.add_option("--etcd-members", cluster.etcd_members, "members of etcd")
      ->check(WholeNumber(1, 5))
      ->capture_default_str();
  app.add_option("--threads", cluster.threads, "threads that help each daemon's lane")
      ->check(WholeNumber(0, 64))
      ->capture_default_str();
  app.add_option("--transport", cluster.transport, "UCX's, of the data plane")
      ->capture_default_str();
  app.add_option("--lease", flags->lease_s, "the nodes' lease")
      ->check(CLI::Range(1.0, 60.0))
      ->type_name("SECONDS")
      ->capture_default_str();
  app.add_option("--chunks", flags->chunks, "sealed chunks, of two layers")
      ->check(WholeNumber(2, 512))
      ->capture_default_str();
  app.add_option("--tokens", flags->tokens, "of each chunk")
      ->check(WholeNumber(1, 4096))
      ->capture_default_str();
  app.add_option("--heads", flags->heads, "of a request of one token")
      ->check(WholeNumber(1, 128))
      ->capture_default_str();
  app.add_option("--json", flags->json, "write everything that was measured there")
      ->type_name("FILE");
}

void AddLoadFlags(CLI::App& app, BenchFlags* flags) {
  app.add_option("--requesters", flags->requesters, "clients, each a thread")
      ->check(WholeNumber(1, 64))
      ->capture_default_str();
  app.add_option("--share", flags->share, "requests a second, of what a closed loop reaches before")
      ->check(CLI::Range(0.01, 0.9))
      ->capture_default_str();
  app.add_option("--rate", flags->rate, "requests a second, instead of a share; 0: the share")
      ->check(CLI::Range(0.0, 1e6))
      ->capture_default_str();
  app.add_option("--timeout", flags->timeout_s, "each request's deadline")
      ->check(CLI::Range(0.1, 10.0))
      ->type_name("SECONDS")
      ->capture_default_str();
  app.add_option("--rounds", flags->rounds, "each with another node")
      ->check(WholeNumber(1, 5))
      ->capture_default_str();
  app.add_option("--window", flags->window_s, "how long the undisturbed cluster is measured")
      ->check(CLI::Range(1.0, 20.0))
      ->type_name("SECONDS")
      ->capture_default_str();
}

BenchData MakeData(const BenchFlags& flags, int chunks_per_question) {
  BenchData data;
  std::mt19937_64 random(23);
  const auto tokens = static_cast<uint32_t>(flags.tokens);
  for (int i = 0; i < flags.chunks; ++i) {
    const ChunkId id{.hi = random(), .lo = random()};
    data.chunks.push_back(RandomChunk(id, tokens, kLayers, RecordFormat::kBf16, random));
  }
  for (size_t i = 0; i < data.chunks.size(); ++i) {
    std::vector<ExpectedPart> parts;
    for (int part = 0; part < chunks_per_question; ++part) {
      parts.push_back({&data.chunks[(i + static_cast<size_t>(part)) % data.chunks.size()], tokens});
    }
    data.questions.push_back(MakeQuestion(static_cast<uint32_t>(i) % kLayers, 1,
                                          static_cast<uint32_t>(flags.heads), false,
                                          std::move(parts), random));
  }
  return data;
}

void Publish(const BenchData& data, const ClientOptions& client) {
  Frontend frontend(client);
  for (const ChunkData& chunk : data.chunks) {
    if (const absl::Status status = frontend.Publish(chunk); !status.ok()) {
      throw std::runtime_error("publish: " + status.ToString());
    }
  }
}

PacedLoadOptions LoadOptions(const BenchFlags& flags, double rate) {
  return {.requesters = flags.requesters, .rate = rate, .timeout = absl::Seconds(flags.timeout_s)};
}

Pace MeasurePace(const BenchFlags& flags, const BenchData& data, const ClientOptions& client) {
  PacedLoad load(data.questions, client, LoadOptions(flags, 0));
  absl::SleepFor(absl::Seconds(1));
  const uint64_t before = load.answered();
  absl::SleepFor(kClosedLoop);
  const uint64_t answered = load.answered() - before;
  const std::vector<Sample> samples = load.Stop();
  const Window window = Summarise(samples, absl::Seconds(flags.timeout_s), 0);
  if (window.wrong + window.failed > 0) {
    throw std::runtime_error(absl::StrCat("before anything was done to the cluster: ", window.wrong,
                                          " wrong answers, errors ", ErrorsOf(window)));
  }
  Pace pace{.capacity = static_cast<double>(answered) / absl::ToDoubleSeconds(kClosedLoop),
            .p50_us = window.p50_us};
  pace.rate = flags.rate > 0 ? flags.rate : flags.share * pace.capacity;
  return pace;
}

std::string Describe(const Pace& pace, const BenchCluster& cluster) {
  return absl::StrCat(
      cluster.size(), " nodes, 2 holders of each chunk; ", Fixed(pace.rate, 0), " requests/s, ",
      Fixed(100 * pace.rate / pace.capacity, 0), "% of the ", Fixed(pace.capacity, 0),
      "/s that the requesters reach one after the other (p50 ", Fixed(pace.p50_us, 0), " us)\n\n");
}

bool Within(const Sample& sample, int64_t from_ns, int64_t to_ns) {
  return sample.due_ns >= from_ns && sample.due_ns < to_ns;
}

Window Summarise(std::span<const Sample> samples, absl::Duration timeout,
                 const std::function<bool(const Sample&)>& counts) {
  Window window;
  std::vector<double> latencies;
  for (const Sample& sample : samples) {
    if (!counts(sample)) continue;
    ++window.requests;
    latencies.push_back(sample.latency_us());
    if (!sample.status.ok()) {
      if (window.failed++ == 0) window.first_error = sample.status.ToString();
      ++window.errors[absl::StatusCodeToString(sample.status.code())];
    } else if (!sample.right) {
      ++window.wrong;
    }
    if (sample.retried) ++window.retried;
    if (absl::Nanoseconds(sample.end_ns - sample.start_ns) > timeout + kDeadlineSlack) {
      ++window.late;
    }
  }
  const Percentiles percentiles = PercentilesOf(std::move(latencies));
  window.p50_us = percentiles.p50;
  window.p99_us = percentiles.p99;
  window.longest_us = percentiles.max;
  return window;
}

Window Summarise(std::span<const Sample> samples, absl::Duration timeout, int64_t from_ns,
                 int64_t to_ns) {
  return Summarise(samples, timeout, [from_ns, to_ns](const Sample& sample) {
    return Within(sample, from_ns, to_ns);
  });
}

nlohmann::json ToJson(const Window& window) {
  return {{"requests", window.requests}, {"wrong", window.wrong},
          {"failed", window.failed},     {"retried", window.retried},
          {"late", window.late},         {"first_error", window.first_error},
          {"errors", window.errors},     {"p50_us", window.p50_us},
          {"p99_us", window.p99_us},     {"longest_us", window.longest_us}};
}

std::string ErrorsOf(const Window& window) {
  if (window.errors.empty()) return "none";
  const std::string counts =
      absl::StrJoin(window.errors, ", ", [](std::string* out, const auto& error) {
        absl::StrAppend(out, error.second, " ", error.first);
      });
  return absl::StrCat(counts, "; the first: ", window.first_error);
}

bool Saturated(const Window& before, const Pace& pace) {
  return before.requests == 0 || before.p50_us > kSaturation * pace.p50_us;
}

double Median(std::vector<double> values) { return PercentilesOf(std::move(values)).p50; }

void Say(const std::string& what) { std::cerr << what << std::endl; }

void WriteJson(const BenchFlags& flags, const nlohmann::json& report) {
  if (!flags.json.empty()) WriteFile(flags.json, report.dump(2) + "\n");
}

int BenchMain(CLI::App& app, int argc, char** argv, BenchFlags* flags,
              const std::function<int(const BenchFlags&)>& run) {
  SetUp(app);
  if (const auto code = ParseCommandLine(app, argc, argv)) return *code;
  try {
    flags->cluster.lease = absl::Seconds(flags->lease_s);
    flags->cluster.programs = FindPrograms(flags->cluster.programs, /*with_etcd=*/true);
    return run(*flags);
  } catch (const std::exception& error) {
    std::cerr << app.get_name() << ": " << error.what() << "\n";
    return kExitFailed;
  }
}

}  // namespace latentd::testing
