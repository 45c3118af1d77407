// What a planned drain costs the requesters: three daemons with etcd, two holders of each chunk, a
// load of a fixed rate that compares every answer, and `Drain` of one node a round.
// docs/performance.md says what is to be expected of it.
#include <iostream>
#include <stdexcept>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "tests/cluster/benchmarks/bench_world.h"
#include "tests/cluster/eventually.h"
#include "tools/command_line.h"
#include "tools/text_table.h"

namespace latentd::testing {
namespace {

constexpr absl::Duration kDrainLimit = absl::Seconds(60);

struct Round {
  std::string drained;
  double drain_s = 0;
  double resume_s = 0;  // until it holds its share again
  uint64_t drain_epochs = 0;
  Window before;
  Window during;
  Window resuming;
  Window all;

  double ratio() const { return during.p99_us / before.p99_us; }
};

double Seconds(int64_t ns) { return static_cast<double>(ns) / 1e9; }

void Check(const absl::Status& status, const std::string& what) {
  if (!status.ok()) throw std::runtime_error(absl::StrCat(what, ": ", status.ToString()));
}

Round DrainOne(const BenchFlags& flags, const BenchData& data, double rate, int node,
               BenchCluster& cluster) {
  const absl::Duration window = absl::Seconds(flags.window_s);
  const absl::Duration timeout = absl::Seconds(flags.timeout_s);
  Say(absl::StrCat("load on the whole cluster for ", absl::FormatDuration(window)));
  PacedLoad load(data.questions, cluster.ClientOf(), LoadOptions(flags, rate));
  absl::SleepFor(absl::Seconds(1));
  const int64_t begin_ns = SteadyNowNs();
  absl::SleepFor(window);

  Say("draining " + cluster.NodeName(node));
  const uint64_t epoch = cluster.Epoch(node);
  const uint32_t share = cluster.SlotsHeld(node).value_or(0);
  const int64_t drain_ns = SteadyNowNs();
  Check(cluster.Drain(node), "drain");
  if (!Eventually(kDrainLimit, [&] { return cluster.SlotsHeld(node).value_or(1) == 0; })) {
    throw std::runtime_error(absl::StrCat(cluster.NodeName(node), " is not drained within ",
                                          absl::FormatDuration(kDrainLimit)));
  }
  const int64_t drained_ns = SteadyNowNs();
  const uint64_t drained_epoch = cluster.Epoch(node);
  absl::SleepFor(absl::Seconds(1));
  Say("resuming it");
  const int64_t resume_ns = SteadyNowNs();
  Check(cluster.Resume(node), "resume");
  // Others may have come to hold more meanwhile: nobody moves a slot for the last of its share.
  if (!Eventually(kDrainLimit, [&] { return cluster.SlotsHeld(node).value_or(0) > share / 2; })) {
    throw std::runtime_error(cluster.NodeName(node) + " does not get its share back");
  }
  cluster.WaitUntilSettled();
  const int64_t settled_ns = SteadyNowNs();
  absl::SleepFor(absl::Seconds(1));
  const std::vector<Sample> samples = load.Stop();
  return {.drained = cluster.NodeName(node),
          .drain_s = Seconds(drained_ns - drain_ns),
          .resume_s = Seconds(settled_ns - resume_ns),
          .drain_epochs = drained_epoch - epoch,
          .before = Summarise(samples, timeout, begin_ns, drain_ns),
          .during = Summarise(samples, timeout, drain_ns, drained_ns),
          .resuming = Summarise(samples, timeout, resume_ns, settled_ns),
          .all = Summarise(samples, timeout, 0)};
}

void Print(const std::vector<Round>& rounds) {
  TextTable table({"drained", "window", ">seconds", ">requests", ">p50 us", ">p99 us",
                   ">longest us", ">p99 / before", ">wrong", "errors"});
  for (const Round& round : rounds) {
    const auto add = [&](const char* name, const Window& window, const std::string& seconds,
                         const std::string& ratio) {
      table.Add({round.drained, name, seconds, absl::StrCat(window.requests),
                 Fixed(window.p50_us, 0), Fixed(window.p99_us, 0), Fixed(window.longest_us, 0),
                 ratio, absl::StrCat(window.wrong), ErrorsOf(window)});
    };
    add("before", round.before, "", "");
    add(absl::StrCat("drain, ", round.drain_epochs, " epochs").c_str(), round.during,
        Fixed(round.drain_s, 2), Fixed(round.ratio(), 2));
    add("resume", round.resuming, Fixed(round.resume_s, 2),
        Fixed(round.resuming.p99_us / round.before.p99_us, 2));
  }
  std::cout << table.ToString();
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
    rounds.push_back(DrainOne(flags, data, pace.rate, i % cluster.size(), cluster));
  }
  Print(rounds);

  std::vector<double> ratios;
  nlohmann::json told = nlohmann::json::array();
  uint64_t broken = 0;
  bool saturated = false;
  for (const Round& round : rounds) {
    ratios.push_back(round.ratio());
    saturated = saturated || Saturated(round.before, pace);
    broken += round.all.wrong + round.all.failed;
    told.push_back({{"drained", round.drained},
                    {"drain_s", round.drain_s},
                    {"resume_s", round.resume_s},
                    {"drain_epochs", round.drain_epochs},
                    {"before", ToJson(round.before)},
                    {"during", ToJson(round.during)},
                    {"resuming", ToJson(round.resuming)},
                    {"all", ToJson(round.all)},
                    {"p99_ratio", round.ratio()}});
  }
  std::cout << "\nmedian of " << rounds.size() << " rounds: p99 during / before "
            << Fixed(Median(ratios), 2) << " (goal: at most 2)\n"
            << (broken == 0 ? "no wrong answer, no failed request\n"
                            : absl::StrCat("BROKEN: ", broken, " wrong or failed requests\n"));
  if (saturated) std::cout << kSaturated;
  WriteJson(flags, {{"benchmark", "drain"},
                    {"nodes", cluster.size()},
                    {"capacity_per_s", pace.capacity},
                    {"rate_per_s", pace.rate},
                    {"rounds", told},
                    {"median_p99_ratio", Median(ratios)},
                    {"saturated", saturated},
                    {"promise_kept", broken == 0}});
  return broken == 0 ? kExitOk : kExitFailed;
}

}  // namespace
}  // namespace latentd::testing

int main(int argc, char** argv) {
  latentd::testing::BenchFlags flags;
  CLI::App app("What draining one of three nodes costs those who ask.", "drain_benchmark");
  latentd::testing::AddClusterFlags(app, &flags);
  latentd::testing::AddLoadFlags(app, &flags);
  return latentd::testing::BenchMain(app, argc, argv, &flags, latentd::testing::Run);
}
