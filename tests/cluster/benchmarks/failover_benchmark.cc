// What the death of a node costs the requesters: three daemons with etcd, two holders of each chunk,
// a load of a fixed rate that compares every answer, and SIGKILL for one node a round.
// docs/performance.md says what is to be expected of it.
#include <iostream>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/cluster/benchmarks/bench_world.h"
#include "tools/command_line.h"
#include "tools/text_table.h"

namespace latentd::testing {
namespace {

struct Round {
  std::string killed;
  Window before;
  Window in_flight;  // asked before the kill, not answered then
  Window outage;     // due after the kill, and before a lease and a second were over
  Window after;      // due after that
  Window all;

  double ratio() const { return after.p99_us / before.p99_us; }
  // As if what is left of the cluster were as much as before.
  double scaled(int nodes) const { return ratio() * (nodes - 1) / nodes; }
};

Round KillOne(const BenchFlags& flags, const BenchData& data, double rate, int node,
              BenchCluster& cluster) {
  const absl::Duration window = absl::Seconds(flags.window_s);
  const absl::Duration timeout = absl::Seconds(flags.timeout_s);
  const absl::Duration outage = flags.cluster.lease + absl::Seconds(1);
  Say(absl::StrCat("load on the whole cluster for ", absl::FormatDuration(window)));
  PacedLoad load(data.questions, cluster.ClientOf(), LoadOptions(flags, rate));
  absl::SleepFor(absl::Seconds(1));
  const int64_t begin_ns = SteadyNowNs();
  absl::SleepFor(window);
  Say(absl::StrCat("kill -9 ", cluster.NodeName(node), ", and load for ",
                   absl::FormatDuration(outage + window)));
  const int64_t kill_ns = SteadyNowNs();
  cluster.Kill(node);
  absl::SleepFor(outage + window);
  const std::vector<Sample> samples = load.Stop();

  const int64_t over_ns = kill_ns + absl::ToInt64Nanoseconds(outage);
  return {.killed = cluster.NodeName(node),
          .before = Summarise(samples, timeout,
                              [&](const Sample& sample) {
                                return Within(sample, begin_ns, kill_ns) && sample.end_ns < kill_ns;
                              }),
          .in_flight = Summarise(samples, timeout,
                                 [&](const Sample& sample) {
                                   return sample.start_ns < kill_ns && sample.end_ns >= kill_ns;
                                 }),
          .outage = Summarise(samples, timeout, kill_ns, over_ns),
          .after = Summarise(samples, timeout, over_ns),
          .all = Summarise(samples, timeout, 0)};
}

std::string Requests(const Window& window) {
  return absl::StrCat(window.requests, " (", window.retried, " retried)");
}

void Print(const std::vector<Round>& rounds, int nodes) {
  TextTable table({"killed", "window", ">requests", ">p50 us", ">p99 us", ">longest us", ">wrong",
                   ">past deadline", "errors"});
  for (const Round& round : rounds) {
    for (const auto& [name, window] :
         {std::pair("before", &round.before), std::pair("in flight at the kill", &round.in_flight),
          std::pair("until lease + 1 s", &round.outage),
          std::pair("after lease + 1 s", &round.after)}) {
      table.Add({round.killed, name, Requests(*window), Fixed(window->p50_us, 0),
                 Fixed(window->p99_us, 0), Fixed(window->longest_us, 0),
                 absl::StrCat(window->wrong), absl::StrCat(window->late), ErrorsOf(*window)});
    }
  }
  std::cout << table.ToString() << "\n";
  TextTable ratios({"killed", ">p99 after / before", ">scaled by the lost capacity"});
  for (const Round& round : rounds) {
    ratios.Add({round.killed, Fixed(round.ratio(), 2), Fixed(round.scaled(nodes), 2)});
  }
  std::cout << ratios.ToString();
}

int Run(const BenchFlags& flags) {
  Say("starting etcd and the daemons");
  BenchCluster cluster(flags.cluster);
  const BenchData data = MakeData(flags, 2);
  Publish(data, cluster.ClientOf());
  Say("how much the cluster can answer");
  const Pace pace = MeasurePace(flags, data, cluster.ClientOf());
  std::cout << Describe(pace, cluster);

  std::vector<Round> rounds;
  for (int i = 0; i < flags.rounds; ++i) {
    const int node = i % cluster.size();
    rounds.push_back(KillOne(flags, data, pace.rate, node, cluster));
    if (i + 1 == flags.rounds) break;
    Say("starting it again");
    cluster.Start(node);
    cluster.WaitUntilSettled();
  }
  Print(rounds, cluster.size());

  std::vector<double> ratios;
  std::vector<double> scaled;
  nlohmann::json told = nlohmann::json::array();
  uint64_t broken = 0;
  bool saturated = false;
  for (const Round& round : rounds) {
    ratios.push_back(round.ratio());
    saturated = saturated || Saturated(round.before, pace);
    scaled.push_back(round.scaled(cluster.size()));
    broken += round.all.wrong + round.all.late + round.before.failed + round.after.failed;
    told.push_back({{"killed", round.killed},
                    {"before", ToJson(round.before)},
                    {"in_flight_at_kill", ToJson(round.in_flight)},
                    {"outage", ToJson(round.outage)},
                    {"after", ToJson(round.after)},
                    {"p99_ratio", round.ratio()},
                    {"p99_ratio_scaled", round.scaled(cluster.size())}});
  }
  std::cout << "\nmedian of " << rounds.size() << " rounds: p99 after / before "
            << Fixed(Median(ratios), 2) << ", scaled by the lost capacity "
            << Fixed(Median(scaled), 2) << " (goal: at most 1.2)\n"
            << (broken == 0 ? "no wrong answer, none past its deadline, no error before or after\n"
                            : "BROKEN: wrong answers, late ones, or errors before or after\n");
  if (saturated) std::cout << kSaturated;
  WriteJson(flags, {{"benchmark", "failover"},
                    {"nodes", cluster.size()},
                    {"lease_s", flags.lease_s},
                    {"capacity_per_s", pace.capacity},
                    {"rate_per_s", pace.rate},
                    {"rounds", told},
                    {"median_p99_ratio", Median(ratios)},
                    {"median_p99_ratio_scaled", Median(scaled)},
                    {"saturated", saturated},
                    {"promise_kept", broken == 0}});
  return broken == 0 ? kExitOk : kExitFailed;
}

}  // namespace
}  // namespace latentd::testing

int main(int argc, char** argv) {
  latentd::testing::BenchFlags flags;
  CLI::App app("What killing one of three nodes costs those who ask.", "failover_benchmark");
  latentd::testing::AddClusterFlags(app, &flags);
  latentd::testing::AddLoadFlags(app, &flags);
  return latentd::testing::BenchMain(app, argc, argv, &flags, latentd::testing::Run);
}
