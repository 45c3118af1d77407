// latentctl: looks at daemons and steers them.
#include <iostream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "client/client.h"
#include "routing/chunk_id.h"
#include "tools/admin_calls.h"
#include "tools/command_line.h"
#include "tools/costs_view.h"
#include "tools/ctl_views.h"
#include "tools/explain.h"
#include "tools/interrupt.h"
#include "tools/node_costs.h"
#include "tools/progress_line.h"

namespace latentd {
namespace {

struct Flags {
  ConnectionFlags connection;
  std::string output = "table";
  bool ranges = false;
  uint32_t limit = 100;
  std::string prefix;
  std::string node;
  bool wait = false;
  double wait_timeout_s = 60;
  bool compute = false;
  bool links = false;
  double measure_timeout_s = 600;
  // explain
  std::vector<std::string> chunks;
  std::vector<std::string> transports;
  ExplainOptions explain;
};

void AddExplainFlags(CLI::App& app, Flags* flags) {
  CLI::App& explain = *app.add_subcommand(
      "explain",
      "what a requester on this machine would best do about chunks, and what each way costs");
  ExplainOptions& options = flags->explain;
  explain.add_option("--chunks", flags->chunks, "ids of the chunks that every row attends")
      ->required()
      ->delimiter(',')
      ->default_str("")
      ->type_name("ID[,...]");
  explain.add_option("--rows", options.rows, "(token, head) rows of one layer of one step")
      ->check(WholeNumber(1));
  explain.add_option("--steps", options.steps, "decode steps over these chunks")
      ->check(WholeNumber(1));
  explain.add_option("--cache", options.cache_bytes, "bytes that the requester can keep")
      ->transform(CLI::AsSizeValue(false))
      ->type_name("BYTES");
  explain.add_option("--deadline", options.deadline_us, "until the first step has to end; 0: none")
      ->check(CLI::NonNegativeNumber)
      ->type_name("MICROSECONDS");
  explain
      .add_option("--shift", options.position_shift,
                  "positions that the chunks are used after the one that they were made for")
      ->type_name("POSITIONS");
  explain
      .add_option("--prefill", options.prefill_us,
                  "the requester can compute records anew, in so long a token; 0: it cannot")
      ->check(CLI::Range(0.0, RuleOf(ConstantKind::kPrefill).most))
      ->type_name("MICROSECONDS");
  explain.add_flag("--calibrate", options.calibrate,
                   "time the nodes' attention from here, whatever they say of it");
  explain.add_option("--transports", flags->transports, "UCX transports, such as tcp")
      ->default_str("auto")
      ->allow_extra_args(false)
      ->delimiter(',')
      ->type_name("NAME[,...]");
}

void AddFlags(CLI::App& app, Flags* flags) {
  SetUp(app);
  app.option_defaults()->always_capture_default();
  CLI::Option* endpoint = AddConnectionFlags(app, &flags->connection);
  app.add_option("--output", flags->output, "how to print")
      ->check(CLI::IsMember({"table", "json"}))
      ->group(endpoint->get_group());
  app.require_subcommand(1);
  app.fallthrough();
  app.add_subcommand("status", "the daemon: state, layout, lanes and what they hold");
  app.add_subcommand("nodes", "the nodes of its cluster, as it sees them");
  CLI::App& table = *app.add_subcommand("table", "the routing table: who holds how many slots");
  table.add_flag("--ranges", flags->ranges, "every range of slots and its holders");
  CLI::App& chunks = *app.add_subcommand("chunks", "the chunks that the daemon holds");
  chunks.add_option("--limit", flags->limit, "show at most so many")->check(WholeNumber(1));
  chunks.add_option("--prefix", flags->prefix,
                    "only those whose id starts with these hexadecimal digits");
  CLI::App& drain = *app.add_subcommand(
      "drain",
      "where etcd keeps the cluster, give the node's slots to others while it goes on answering; "
      "with a static list, admit no more queries and publishes");
  drain.add_option("NODE", flags->node, "the node's id; without it, the one at the endpoint");
  CLI::Option* wait = drain.add_flag(
      "--wait", flags->wait, "return when it holds no slot and nothing is in flight any more");
  drain.add_option("--wait-timeout", flags->wait_timeout_s, "give up after this long")
      ->needs(wait)
      ->check(PositiveSeconds())
      ->type_name("SECONDS");
  AddExplainFlags(app, flags);
  app.add_subcommand("costs", "what nodes have measured of their devices and links");
  CLI::App& calibrate = *app.add_subcommand(
      "calibrate", "have a node measure its devices and links now, while it goes on answering");
  calibrate.add_option("--node", flags->node, "the node's id; without it, the one at the endpoint");
  calibrate.add_flag("--compute", flags->compute, "its devices only");
  calibrate.add_flag("--links", flags->links, "its links only");
  calibrate.add_option("--measure-timeout", flags->measure_timeout_s, "give up after this long")
      ->check(PositiveSeconds())
      ->type_name("SECONDS");
  CLI::App& resume = *app.add_subcommand("resume", "undo a drain");
  resume.add_option("NODE", flags->node, "the node's id; without it, the one at the endpoint");
}

uint64_t InFlight(const v1::StatusResponse& status) {
  uint64_t requests = 0;
  for (const v1::LaneStatus& lane : status.lanes()) requests += lane.requests_in_flight();
  return requests;
}

// What a node that drains still has to do.
struct LeftToDrain {
  uint64_t requests = 0;
  uint64_t slots = 0;

  bool any() const { return requests > 0 || slots > 0; }
  std::string ToString() const {
    return absl::StrCat(slots == 0 ? "" : absl::StrCat(slots, " slots to go, "), requests,
                        " requests in flight");
  }
};

absl::StatusOr<View> Drain(AdminCalls& calls, const Flags& flags) {
  const auto drained = calls.Drain();
  if (!drained.ok()) return drained.status();
  // With a static list of nodes its slots stay where they are.
  const bool hands_over = drained->hands_over();
  LeftToDrain left{.requests = drained->requests_in_flight(),
                   .slots = hands_over ? drained->slots_held() : 0};
  ProgressLine progress;
  uint64_t degraded = 0;
  const absl::Time give_up = absl::Now() + absl::Seconds(flags.wait_timeout_s);
  if (flags.wait) CatchInterrupts();
  while (flags.wait && left.any()) {
    if (Interrupted()) {
      return absl::CancelledError(
          absl::StrCat("interrupted; the node goes on draining until `resume`: ", left.ToString()));
    }
    if (absl::Now() > give_up) {
      return absl::DeadlineExceededError(absl::StrCat("still draining: ", left.ToString(),
                                                      " after ", flags.wait_timeout_s,
                                                      " s; it goes on until `resume`"));
    }
    progress.Show(absl::StrCat("draining: ", left.ToString()));
    absl::SleepFor(absl::Milliseconds(hands_over ? 200 : 50));
    const auto status = calls.Status();
    if (!status.ok()) return status.status();
    left = {.requests = InFlight(*status),
            .slots = hands_over ? status->replication().slots_held() : 0};
    degraded = hands_over ? status->replication().cluster_degraded_slots() : 0;
  }
  const bool empty = flags.wait && hands_over && !left.any();
  const std::string copies =
      degraded == 0 ? ""
                    : absl::StrCat("; ", degraded, " slots of the cluster have too few copies now");
  return View{
      absl::StrCat(empty ? "drained: it holds no slots and can be stopped, " : "draining, ",
                   left.ToString(), copies, "\n"),
      {{"state", "draining"}, {"requests_in_flight", left.requests}, {"slots_held", left.slots}}};
}

absl::StatusOr<View> Resume(AdminCalls& calls, const Flags&) {
  const auto resumed = calls.Resume();
  if (!resumed.ok()) return resumed.status();
  return View{"active\n", {{"state", "active"}}};
}

absl::StatusOr<View> Calibrate(AdminCalls& calls, const Flags& flags) {
  const auto measured =
      calls.Calibrate(flags.compute, flags.links, absl::Seconds(flags.measure_timeout_s));
  if (!measured.ok()) return measured.status();
  return CalibrateView(*measured, absl::Now());
}

// Does it to the node that the flags name, wherever it is.
absl::StatusOr<View> ToNode(AdminCalls& calls, const Flags& flags,
                            absl::StatusOr<View> (*act)(AdminCalls&, const Flags&)) {
  if (flags.node.empty()) return act(calls, flags);
  const auto nodes = calls.ListNodes();
  if (!nodes.ok()) return nodes.status();
  std::vector<std::string> names;
  for (const v1::Node& node : nodes->nodes()) {
    names.push_back(node.id());
    if (node.id() != flags.node) continue;
    const auto there = AdminCalls::Create(node.control_address(), flags.connection.tls,
                                          absl::Seconds(flags.connection.timeout_s));
    if (!there.ok()) return there.status();
    return act(**there, flags);
  }
  return absl::NotFoundError(
      absl::StrCat("no node \"", flags.node, "\"; there are ", absl::StrJoin(names, ", ")));
}

absl::StatusOr<View> Nodes(AdminCalls& calls) {
  const auto nodes = calls.ListNodes();
  if (!nodes.ok()) return nodes.status();
  // A daemon without a table knows its nodes all the same.
  const auto table = calls.GetTable();
  return NodesView(*nodes, table.ok() ? *table : v1::RoutingTable());
}

absl::StatusOr<View> Explained(const Flags& flags) {
  ExplainOptions options = flags.explain;
  options.timeout = absl::Seconds(flags.connection.timeout_s);
  for (const std::string& text : flags.chunks) {
    const auto id = ParseChunkId(text);
    if (!id.ok()) return id.status();
    options.chunks.push_back(*id);
  }
  // It polls, as a frontend does that waits for a layer.
  const auto client = Client::Connect({.endpoints = flags.connection.endpoints,
                                       .client_name = "latentctl",
                                       .tls = flags.connection.tls,
                                       .transports = flags.transports,
                                       .connect_timeout = options.timeout,
                                       .call_timeout = options.timeout,
                                       .spin = options.timeout});
  if (!client.ok()) return client.status();
  NodeCostsAnswers answers =
      AskNodesForCosts(*(*client)->table(), flags.connection.tls, options.timeout);
  options.costs = std::move(answers.costs);
  auto report = ExplainChunks(**client, options);
  if (!report.ok()) return report.status();
  for (std::string& silent : answers.silent) report->notes.push_back(std::move(silent));
  return View{report->ToText(), report->ToJson()};
}

template <typename Response, typename MakeView>
absl::StatusOr<View> Shown(const absl::StatusOr<Response>& response, MakeView view) {
  if (!response.ok()) return response.status();
  return view(*response);
}

absl::StatusOr<View> Run(AdminCalls& calls, const std::string& command, const Flags& flags) {
  if (command == "status") return Shown(calls.Status(), StatusView);
  if (command == "nodes") return Nodes(calls);
  if (command == "table") {
    return Shown(calls.GetTable(),
                 [&](const v1::RoutingTable& table) { return TableView(table, flags.ranges); });
  }
  if (command == "chunks") return Shown(calls.Chunks(flags.limit, flags.prefix), ChunksView);
  if (command == "costs") {
    return Shown(calls.Costs(),
                 [](const v1::CostsResponse& costs) { return CostsView(costs, absl::Now()); });
  }
  if (command == "calibrate") return ToNode(calls, flags, Calibrate);
  return ToNode(calls, flags, command == "drain" ? Drain : Resume);
}

// The first endpoint that answers at all has the word.
absl::StatusOr<View> RunAnywhere(const std::string& command, const Flags& flags) {
  absl::Status last;
  std::vector<std::string> reasons;
  for (const std::string& endpoint : flags.connection.endpoints) {
    const auto calls = AdminCalls::Create(endpoint, flags.connection.tls,
                                          absl::Seconds(flags.connection.timeout_s));
    if (!calls.ok()) return calls.status();
    absl::StatusOr<View> view = Run(**calls, command, flags);
    if (view.ok() || !absl::IsUnavailable(view.status())) return view;
    last = view.status();
    reasons.emplace_back(last.message());
  }
  return absl::Status(last.code(), absl::StrJoin(reasons, "; "));
}

int Main(int argc, char** argv) {
  CLI::App app("Looks at latentd daemons and steers them.", "latentctl");
  app.footer("Exit status: 0 done, 1 failed, 2 usage.");
  Flags flags;
  AddFlags(app, &flags);
  if (const auto code = ParseCommandLine(app, argc, argv)) return *code;
  const std::string command = app.get_subcommands().front()->get_name();
  const absl::StatusOr<View> view =
      command == "explain" ? Explained(flags) : RunAnywhere(command, flags);
  if (!view.ok()) return Fail(app, view.status());
  std::cout << (flags.output == "json" ? view->json.dump(2) + "\n" : view->text);
  return std::cout.flush() ? kExitOk : kExitFailed;
}

}  // namespace
}  // namespace latentd

int main(int argc, char** argv) { return latentd::Main(argc, argv); }
