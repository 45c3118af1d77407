// Whether it costs a query anything that the routing table comes from etcd: two clusters of the same
// settings side by side, one with etcd and one with a static list, asked in turn by one requester.
// docs/performance.md says what is to be expected of it.
#include <iostream>
#include <memory>
#include <stdexcept>

#include "absl/strings/str_cat.h"
#include "tests/cluster/benchmarks/bench_world.h"
#include "tests/cluster/frontend.h"
#include "tools/command_line.h"
#include "tools/statistics.h"
#include "tools/text_table.h"

namespace latentd::testing {
namespace {

struct Flags {
  double seconds = 40;  // of asking
  int block = 100;      // requests to one cluster before it is the other's turn
};

// One of the two clusters and who asks it.
struct Side {
  std::string name;
  BenchCluster cluster;
  Frontend frontend;
  size_t question = 0;
  std::vector<double> all_us;
  std::vector<double> blocks_us;  // the median of each block

  Side(const char* its_name, BenchClusterOptions options)
      : name(its_name), cluster(std::move(options)), frontend(cluster.ClientOf()) {}
};

void AskBlock(const BenchData& data, int requests, bool counts, Side& side) {
  std::vector<double> us;
  for (int i = 0; i < requests; ++i) {
    const Question& question = data.questions[side.question++ % data.questions.size()];
    Partials answer;
    const int64_t start_ns = SteadyNowNs();
    absl::Status status = side.frontend.Ask(question, absl::Seconds(10), &answer);
    us.push_back(static_cast<double>(SteadyNowNs() - start_ns) / 1e3);
    if (status.ok() && !Compare(answer.out, answer.lse, question.answer.out, question.answer.lse,
                                question.parts.front().chunk->geometry.latent_width)
                            .Within(kOutBound, kLseBound)) {
      status = absl::DataLossError("a wrong answer");
    }
    if (!status.ok()) throw std::runtime_error(side.name + ": " + status.ToString());
  }
  if (!counts) return;
  side.blocks_us.push_back(Median(us));
  side.all_us.insert(side.all_us.end(), us.begin(), us.end());
}

int Run(const BenchFlags& flags, const Flags& own) {
  Say("starting both clusters");
  BenchClusterOptions options = flags.cluster;
  Side etcd("etcd", options);
  options.etcd = false;
  Side fixed("static", options);
  // About one chunk: what two take hangs on whether one node holds both, and the two tables differ.
  const BenchData data = MakeData(flags, 1);
  for (Side* side : {&etcd, &fixed}) Publish(data, side->cluster.ClientOf());

  Say(absl::StrCat("asking them in turn for ", own.seconds, " s"));
  const int64_t begin_ns = SteadyNowNs();
  const auto end_ns = begin_ns + static_cast<int64_t>(own.seconds * 1e9);
  const auto warm_ns = begin_ns + static_cast<int64_t>(own.seconds * 1e8);  // a tenth
  for (int round = 0; SteadyNowNs() < end_ns; ++round) {
    // Who begins takes turns, too.
    Side* first = round % 2 == 0 ? &etcd : &fixed;
    Side* second = round % 2 == 0 ? &fixed : &etcd;
    const bool counts = SteadyNowNs() > warm_ns;
    AskBlock(data, own.block, counts, *first);
    AskBlock(data, own.block, counts, *second);
  }

  std::vector<double> ratios;
  for (size_t i = 0; i < etcd.blocks_us.size(); ++i) {
    ratios.push_back(etcd.blocks_us[i] / fixed.blocks_us[i]);
  }
  if (ratios.empty()) throw std::runtime_error("no block was over in time: more --seconds");
  std::sort(ratios.begin(), ratios.end());
  const double of_medians = Median(etcd.blocks_us) / Median(fixed.blocks_us);
  const double of_pairs = Median(ratios);
  const double low = ratios[ratios.size() / 4];
  const double high = ratios[ratios.size() * 3 / 4];

  TextTable table({"table from", ">requests", ">p50 us", ">p99 us", ">median of blocks us"});
  nlohmann::json told;
  for (const Side* side : {&fixed, &etcd}) {
    const Percentiles percentiles = PercentilesOf(side->all_us);
    table.Add({side->name, absl::StrCat(side->all_us.size()), Fixed(percentiles.p50, 1),
               Fixed(percentiles.p99, 1), Fixed(Median(side->blocks_us), 1)});
    told[side->name] = {{"requests", side->all_us.size()},
                        {"p50_us", percentiles.p50},
                        {"p99_us", percentiles.p99},
                        {"median_of_blocks_us", Median(side->blocks_us)}};
  }
  std::cout << table.ToString() << "\netcd / static, " << ratios.size() << " pairs of blocks of "
            << own.block << ": of the medians " << Fixed(of_medians, 3) << ", median of the pairs "
            << Fixed(of_pairs, 3) << " (quartiles " << Fixed(low, 3) << " to " << Fixed(high, 3)
            << "; goal: at most 1.02)\n";
  told.update({{"benchmark", "membership"},
               {"pairs", ratios.size()},
               {"block", own.block},
               {"ratio_of_medians", of_medians},
               {"median_of_ratios", of_pairs},
               {"quartiles", {low, high}}});
  WriteJson(flags, told);
  return kExitOk;
}

}  // namespace
}  // namespace latentd::testing

int main(int argc, char** argv) {
  using latentd::testing::BenchFlags;
  BenchFlags flags;
  latentd::testing::Flags own;
  CLI::App app("Attend with the routing table from etcd, against one from a static list.",
               "membership_benchmark");
  latentd::testing::AddClusterFlags(app, &flags);
  app.add_option("--nodes", flags.cluster.nodes,
                 "of each cluster; two hold each chunk, if there are")
      ->check(latentd::WholeNumber(1, 5))
      ->capture_default_str();
  app.add_option("--seconds", own.seconds, "how long they are asked")
      ->check(CLI::Range(2.0, 100.0))
      ->capture_default_str();
  app.add_option("--block", own.block, "requests to one before it is the other's turn")
      ->check(latentd::WholeNumber(1, 100000))
      ->capture_default_str();
  return latentd::testing::BenchMain(app, argc, argv, &flags, [&own](const BenchFlags& common) {
    BenchFlags given = common;
    given.cluster.replicas =
        std::min(given.cluster.replicas, static_cast<uint32_t>(given.cluster.nodes));
    return Run(given, own);
  });
}
