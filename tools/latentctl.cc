// latentctl: looks at daemons and steers them.
#include <iostream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "tools/admin_calls.h"
#include "tools/command_line.h"
#include "tools/ctl_views.h"
#include "tools/interrupt.h"
#include "tools/progress_line.h"

namespace latentd {
namespace {

struct Flags {
  ConnectionFlags connection;
  std::string output = "table";
  bool ranges = false;
  uint32_t limit = 100;
  std::string prefix;
  bool wait = false;
  double wait_timeout_s = 60;
};

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
      "drain", "admit no more queries and publishes; what is in flight finishes");
  CLI::Option* wait =
      drain.add_flag("--wait", flags->wait, "return when nothing is in flight any more");
  drain.add_option("--wait-timeout", flags->wait_timeout_s, "give up after this long")
      ->needs(wait)
      ->check(PositiveSeconds())
      ->type_name("SECONDS");
  app.add_subcommand("resume", "admit again");
}

uint64_t InFlight(const v1::StatusResponse& status) {
  uint64_t requests = 0;
  for (const v1::LaneStatus& lane : status.lanes()) requests += lane.requests_in_flight();
  return requests;
}

absl::StatusOr<View> Drain(AdminCalls& calls, const Flags& flags) {
  const auto drained = calls.Drain();
  if (!drained.ok()) return drained.status();
  uint64_t in_flight = drained->requests_in_flight();
  ProgressLine progress;
  const absl::Time give_up = absl::Now() + absl::Seconds(flags.wait_timeout_s);
  if (flags.wait) CatchInterrupts();
  while (flags.wait && in_flight > 0) {
    if (Interrupted()) {
      return absl::CancelledError(
          absl::StrCat("interrupted; the node is draining, ", in_flight, " requests in flight"));
    }
    if (absl::Now() > give_up) {
      return absl::DeadlineExceededError(absl::StrCat(
          "still draining: ", in_flight, " requests in flight after ", flags.wait_timeout_s, " s"));
    }
    progress.Show(absl::StrCat("draining: ", in_flight, " requests in flight"));
    absl::SleepFor(absl::Milliseconds(50));
    const auto status = calls.Status();
    if (!status.ok()) return status.status();
    in_flight = InFlight(*status);
  }
  return View{absl::StrCat("draining, ", in_flight, " requests in flight\n"),
              {{"state", "draining"}, {"requests_in_flight", in_flight}}};
}

template <typename Response, typename MakeView>
absl::StatusOr<View> Shown(const absl::StatusOr<Response>& response, MakeView view) {
  if (!response.ok()) return response.status();
  return view(*response);
}

absl::StatusOr<View> Run(AdminCalls& calls, const std::string& command, const Flags& flags) {
  if (command == "status") return Shown(calls.Status(), StatusView);
  if (command == "nodes") return Shown(calls.ListNodes(), NodesView);
  if (command == "table") {
    return Shown(calls.GetTable(),
                 [&](const v1::RoutingTable& table) { return TableView(table, flags.ranges); });
  }
  if (command == "chunks") return Shown(calls.Chunks(flags.limit, flags.prefix), ChunksView);
  if (command == "drain") return Drain(calls, flags);
  return Shown(calls.Resume(), [](const v1::ResumeResponse&) {
    return View{"active\n", {{"state", "active"}}};
  });
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
  const absl::StatusOr<View> view = RunAnywhere(command, flags);
  if (!view.ok()) return Fail(app, view.status());
  std::cout << (flags.output == "json" ? view->json.dump(2) + "\n" : view->text);
  return std::cout.flush() ? kExitOk : kExitFailed;
}

}  // namespace
}  // namespace latentd

int main(int argc, char** argv) { return latentd::Main(argc, argv); }
