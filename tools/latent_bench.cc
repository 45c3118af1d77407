// latent-bench: replays recorded queries through a cluster and checks the answers; measures routed
// attention and the wire.
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>
#include <optional>

#include "absl/strings/str_cat.h"
#include "client/client.h"
#include "tools/bench_report.h"
#include "tools/command_line.h"
#include "tools/fanin.h"
#include "tools/fetch_bench.h"
#include "tools/interrupt.h"
#include "tools/latency.h"
#include "tools/model_check.h"
#include "tools/model_report.h"
#include "tools/node_costs.h"
#include "tools/progress_line.h"
#include "tools/replay.h"
#include "tools/trace.h"

namespace latentd {
namespace {

// Each measured request is remembered, in 40 bytes.
constexpr uint64_t kMaxRequests = 10'000'000;

// How long a requester that has nothing else to do polls: as a frontend does that waits for a layer.
constexpr int64_t kPollingUs = 10'000'000;

struct Flags {
  ConnectionFlags connection;
  std::vector<std::string> transports;
  std::string memory;
  std::optional<int64_t> spin_us;
  std::string json_file;
  // replay
  std::vector<std::string> traces;
  std::string record;
  uint32_t chunk_tokens = 128;
  uint32_t holders = 0;
  std::string out = "bf16";
  // latency, transport
  AttendLoadOptions load;
  double duration_s = 5;
  // model-check
  ModelCheckOptions model;
  uint32_t most_rows = 1024;
  bool require = false;
  // fanin
  FaninOptions fanin;
  // fetch
  FetchBenchOptions fetch;
  // frontier
  uint32_t steps = 16;
  double prefill_us = 0;
  std::string picture;
};

void AddLoadFlags(CLI::App& command, Flags* flags) {
  LoadOptions& load = flags->load;
  command.add_option("--heads", load.heads, "heads of each query token")
      ->check(WholeNumber(1, kMaxHeads));
  command.add_option("--query-tokens", load.query_tokens, "query tokens of each request")
      ->check(WholeNumber(1));
  command.add_option("--concurrency", load.concurrency, "requests in flight")
      ->check(WholeNumber(1));
  command.add_option("--requests", load.requests, "stop after so many")
      ->check(WholeNumber(1, kMaxRequests));
  command.add_option("--duration", flags->duration_s, "or after this long, the warm-up included")
      ->check(PositiveSeconds())
      ->type_name("SECONDS");
  command.add_option("--warmup", load.warmup, "requests before the first that counts")
      ->check(WholeNumber(0, kMaxRequests));
}

void AddReplayFlags(CLI::App& replay, Flags* flags) {
  replay.add_option("--trace", flags->traces, "a recorded trace (.safetensors)")
      ->required()
      ->type_name("FILE");
  replay
      .add_option("--record", flags->record,
                  "record format that the cluster must hold; default: whichever it holds")
      ->check(CLI::IsMember({"bf16", "fp8"}));
  replay.add_option("--chunk-tokens", flags->chunk_tokens, "tokens of each chunk")
      ->check(WholeNumber(1));
  replay
      .add_option("--holders,--nodes", flags->holders,
                  "nodes that the chunks are spread over; 0: all of them")
      ->check(WholeNumber(0));
  replay.add_option("--out", flags->out, "format of the answers")
      ->check(CLI::IsMember({"bf16", "fp32"}));
}

void AddModelFlags(CLI::App& app, Flags* flags) {
  CLI::App& check = *app.add_subcommand(
      "model-check",
      "set the cost model's predictions and the planner's choices against measurements");
  CLI::App& frontier = *app.add_subcommand(
      "frontier", "draw where routing and fetching are cheaper, predicted and measured");
  ModelCheckOptions& model = flags->model;
  for (CLI::App* command : {&check, &frontier}) {
    command->add_option("--max-rows", flags->most_rows, "leave out points of more rows")
        ->check(WholeNumber(16, 16384));
    command->add_option("--requests", model.requests, "round trips of each point that count")
        ->check(WholeNumber(1, kMaxRequests));
    command->add_option("--warmup", model.warmup, "round trips of each point before that")
        ->check(WholeNumber(0, kMaxRequests));
    command->add_option("--rounds", model.rounds, "turns in which all points are measured")
        ->check(WholeNumber(1, 1000));
  }
  check.add_option("--holders", model.holders, "nodes; points have 1 to so many")
      ->check(WholeNumber(1, kMaxPlanHolders));
  check.add_flag("--require", flags->require, "exit with 1 where the goals are not met");
  frontier.add_option("--steps", flags->steps, "decode steps over the same tokens")
      ->check(WholeNumber(1));
  frontier
      .add_option("--prefill", flags->prefill_us,
                  "the requester can compute records anew, in so long a token; 0: it cannot")
      ->check(CLI::Range(0.0, RuleOf(ConstantKind::kPrefill).most))
      ->type_name("MICROSECONDS");

  CLI::App& fanin = *app.add_subcommand(
      "fanin", "latency and throughput of 1, 2, 4 ... requesters on one holder, and predicted");
  fanin.add_option("--requesters", flags->fanin.most_requesters, "up to so many")
      ->check(WholeNumber(1, 256));
  fanin.add_option("--rows", flags->fanin.rows, "of each query")->check(WholeNumber(1, 16384));
  fanin.add_option("--tokens", flags->fanin.tokens, "that each query attends")
      ->check(WholeNumber(1));
  fanin
      .add_option("--threads", flags->fanin.threads,
                  "that the requesters are dealt out to: cores of this machine that the daemon leaves")
      ->check(WholeNumber(1, 256));
  fanin
      .add_option("--requests", flags->fanin.requests,
                  "round trips that count, of each number of requesters; at least two each")
      ->check(WholeNumber(1, kMaxRequests));
  fanin.add_option("--warmup", flags->fanin.warmup, "round trips before that; at least two each")
      ->check(WholeNumber(0, kMaxRequests));
  fanin.add_option("--rounds", flags->fanin.rounds, "turns of the calibration that comes first")
      ->check(WholeNumber(1, 1000));
  fanin.add_option("--max-rows", flags->most_rows, "calibrate with at most so many rows")
      ->check(WholeNumber(16, 16384));
  for (CLI::App* command : {&frontier, &fanin}) {
    command->add_option("--out", flags->picture, "draw it into this file")->type_name("FILE.svg");
  }
}

void AddFetchFlags(CLI::App& fetch, Flags* flags) {
  FetchBenchOptions& options = flags->fetch;
  fetch.add_option("--tokens", options.tokens, "tokens of each fetch")->check(WholeNumber(1));
  fetch.add_option("--context", options.context, "that they are selected from")
      ->check(WholeNumber(1));
  fetch.add_option("--layers", options.layers, "of each token; 0: all that there are")
      ->check(WholeNumber(0));
  fetch
      .add_option("--holders", options.holders,
                  "nodes; fetches are timed from one, and from so many")
      ->check(WholeNumber(1, 1024));
  fetch.add_option("--requests", options.requests, "fetches of each kind that count")
      ->check(WholeNumber(1, kMaxRequests));
  fetch.add_option("--warmup", options.warmup, "fetches of each kind before that")
      ->check(WholeNumber(0, kMaxRequests));
}

void AddFlags(CLI::App& app, Flags* flags) {
  SetUp(app);
  app.option_defaults()->always_capture_default();
  CLI::Option* endpoint = AddConnectionFlags(app, &flags->connection);
  app.option_defaults()->group(endpoint->get_group());
  app.add_option("--transports", flags->transports,
                 "UCX transports, such as tcp; auto: what UCX finds")
      ->default_str("auto")
      ->allow_extra_args(false)
      ->delimiter(',')
      ->type_name("NAME[,...]");
  app.add_option(
         "--spin", flags->spin_us,
         "poll this long before sleeping while waiting for answers; default: 50, and as long "
         "as it takes for model-check, frontier, fanin and fetch")
      ->check(WholeNumber(0))
      ->type_name("MICROSECONDS");
  app.add_option("--json", flags->json_file,
                 "write the results to this file too; - is stdout, instead of the tables")
      ->type_name("FILE");
  app.add_option("--memory", flags->memory,
                 "keep queries and answers in memory of this CUDA device, cuda:N; else the host's")
      ->type_name("DEVICE");
  app.option_defaults()->group("Options");
  app.require_subcommand(1);
  app.fallthrough();

  AddReplayFlags(
      *app.add_subcommand("replay", "publish traces, ask their queries, compare the answers"),
      flags);

  CLI::App& traces =
      *app.add_subcommand("traces", "read traces and say what is in them; needs no daemon");
  traces.add_option("FILE", flags->traces, "recorded traces (.safetensors)")->required();
  traces.preparse_callback([endpoint](size_t) { endpoint->required(false); });

  CLI::App& latency =
      *app.add_subcommand("latency", "attend random records: latencies, and where the time goes");
  AddLoadFlags(latency, flags);
  latency.add_option("--tokens", flags->load.tokens, "tokens that each query attends")
      ->check(WholeNumber(1));
  latency.add_option("--holders", flags->load.holders, "nodes that they are spread over")
      ->check(WholeNumber(1));
  latency
      .add_option("--chunk-tokens", flags->load.chunk_tokens, "at most so many tokens in a chunk")
      ->check(WholeNumber(1));
  latency.add_option("--record", flags->record, "record format that the cluster must hold")
      ->check(CLI::IsMember({"bf16", "fp8"}));

  CLI::App& transport = *app.add_subcommand(
      "transport", "echo messages as large as an attend's: the wire's share of its latency");
  AddLoadFlags(transport, flags);
  AddModelFlags(app, flags);
  AddFetchFlags(*app.add_subcommand("fetch",
                                    "fetch records into the client's own pages: those that lie "
                                    "together against those that are selected"),
                flags);
}

// For the library, no names are what UCX finds.
std::vector<std::string> TransportsOf(const Flags& flags) {
  if (flags.transports == std::vector<std::string>{"auto"}) return {};
  return flags.transports;
}

absl::StatusOr<std::unique_ptr<Client>> ConnectTo(const Flags& flags, int64_t default_spin_us = 50,
                                                  uint64_t cache_bytes = 0) {
  auto client =
      Client::Connect({.endpoints = flags.connection.endpoints,
                       .client_name = "latent-bench",
                       .tls = flags.connection.tls,
                       .transports = TransportsOf(flags),
                       .cache_bytes = cache_bytes,
                       .device = flags.memory,
                       .connect_timeout = absl::Seconds(flags.connection.timeout_s),
                       .call_timeout = absl::Seconds(flags.connection.timeout_s),
                       .spin = absl::Microseconds(flags.spin_us.value_or(default_spin_us))});
  if (!client.ok()) return client.status();
  const std::string_view held = RecordFormatName((*client)->layout().record_format);
  if (!flags.record.empty() && flags.record != held) {
    return absl::FailedPreconditionError(
        absl::StrCat("the cluster holds ", std::string(held), " records, not ", flags.record));
  }
  return client;
}

// What a command found: tables, the same as JSON, whether all is well, and why it ended early.
struct Outcome {
  std::string text;
  nlohmann::json json;
  bool right = true;
  absl::Status stopped;
};

absl::StatusOr<std::vector<Trace>> ReadTraces(const Flags& flags) {
  std::vector<Trace> traces;
  for (const std::string& path : flags.traces) {
    absl::StatusOr<Trace> trace = ReadTrace(path);
    if (!trace.ok()) return trace.status();
    traces.push_back(*std::move(trace));
  }
  return traces;
}

absl::StatusOr<Outcome> RunTraces(const Flags& flags) {
  const auto traces = ReadTraces(flags);
  if (!traces.ok()) return traces.status();
  return Outcome{.text = TracesText(*traces), .json = TracesJson(*traces)};
}

absl::StatusOr<Outcome> RunReplay(const Flags& flags, ProgressLine& progress) {
  const auto traces = ReadTraces(flags);
  if (!traces.ok()) return traces.status();
  auto client = ConnectTo(flags);
  if (!client.ok()) return client.status();
  CatchInterrupts();
  const ReplayOptions options = {
      .chunk_tokens = flags.chunk_tokens,
      .holders = flags.holders,
      .device = flags.memory,
      .out_format = flags.out == "fp32" ? OutFormat::kFp32 : OutFormat::kBf16,
      .timeout = absl::Seconds(flags.connection.timeout_s),
      .progress = [&](const std::string& text) { progress.Show(text); },
      .interrupted = Interrupted};
  std::vector<ReplayReport> reports;
  Outcome outcome;
  for (const Trace& trace : *traces) {
    absl::StatusOr<ReplayReport> report = Replay(**client, trace, options);
    if (!report.ok() && reports.empty()) return report.status();
    if (!report.ok()) {
      outcome.stopped = report.status();
      break;
    }
    outcome.right = outcome.right && report->right();
    reports.push_back(*std::move(report));
  }
  outcome.text = ReplayText(reports);
  outcome.json = ReplayJson(reports);
  return outcome;
}

absl::StatusOr<Outcome> RunLoad(const Flags& flags, const std::string& command,
                                ProgressLine& progress) {
  auto client = ConnectTo(flags);
  if (!client.ok()) return client.status();
  CatchInterrupts();
  AttendLoadOptions options = flags.load;
  options.duration = absl::Seconds(flags.duration_s);
  options.timeout = absl::Seconds(flags.connection.timeout_s);
  options.progress = [&](const std::string& text) {
    progress.Show(absl::StrCat(command, ": ", text));
  };
  options.interrupted = Interrupted;
  options.device = flags.memory;
  if (command == "transport") {
    const auto reports = MeasureWire(**client, options);
    if (!reports.ok()) return reports.status();
    return Outcome{.text = EchoText(*reports),
                   .json = EchoJson(*reports),
                   .stopped = reports->empty() ? absl::OkStatus() : reports->back().stopped};
  }
  const auto report = MeasureAttend(**client, options);
  if (!report.ok()) return report.status();
  return Outcome{.text = AttendLoadText(options, *report),
                 .json = AttendLoadJson(options, *report),
                 .stopped = report->stopped};
}

absl::Status WriteFile(const std::string& file, const std::string& content) {
  std::ofstream out(file);
  out << content;
  out.flush();
  if (!out) return absl::UnavailableError(absl::StrCat(file, ": cannot be written"));
  return absl::OkStatus();
}

void LeaveOutBeyond(uint32_t most_rows, std::vector<uint32_t>* rows) {
  std::erase_if(*rows, [&](uint32_t some) { return some > most_rows; });
}

// model-check and frontier.
absl::StatusOr<Outcome> RunModel(const Flags& flags, const std::string& command,
                                 ProgressLine& progress) {
  auto client = ConnectTo(flags, kPollingUs);
  if (!client.ok()) return client.status();
  CatchInterrupts();
  ModelCheckOptions options = flags.model;
  LeaveOutBeyond(flags.most_rows, &options.rows);
  LeaveOutBeyond(flags.most_rows, &options.fit.rows);
  if (command == "frontier") options.steps = {flags.steps};
  options.timeout = absl::Seconds(flags.connection.timeout_s);
  options.device = flags.memory;
  options.costs =
      AskNodesForCosts(*(*client)->table(), flags.connection.tls, options.timeout).costs;
  options.progress = [&](const std::string& text) {
    progress.Show(absl::StrCat(command, ": ", text));
  };
  options.interrupted = Interrupted;
  const auto report = CheckModel(**client, options);
  if (!report.ok()) return report.status();
  if (command == "frontier" && !flags.picture.empty()) {
    const auto picture = FrontierSvg(*report, flags.steps, flags.prefill_us);
    if (!picture.ok()) return picture.status();
    if (absl::Status s = WriteFile(flags.picture, *picture); !s.ok()) return s;
  }
  return Outcome{.text = ModelCheckText(*report),
                 .json = ModelCheckJson(*report),
                 .right = !flags.require || MeetsGoals(*report)};
}

absl::StatusOr<Outcome> RunFanin(const Flags& flags, ProgressLine& progress) {
  CatchInterrupts();
  FaninOptions options = flags.fanin;
  LeaveOutBeyond(flags.most_rows, &options.fit.rows);
  options.timeout = absl::Seconds(flags.connection.timeout_s);
  options.connect = [&] { return ConnectTo(flags, kPollingUs); };
  options.progress = [&](const std::string& text) { progress.Show("fanin: " + text); };
  options.interrupted = Interrupted;
  const auto report = MeasureFanin(options);
  if (!report.ok()) return report.status();
  if (!flags.picture.empty()) {
    if (absl::Status s = WriteFile(flags.picture, FaninSvg(*report)); !s.ok()) return s;
  }
  return Outcome{.text = FaninText(*report), .json = FaninJson(*report)};
}

absl::StatusOr<Outcome> RunFetch(const Flags& flags, ProgressLine& progress) {
  CatchInterrupts();
  FetchBenchOptions options = flags.fetch;
  options.timeout = absl::Seconds(flags.connection.timeout_s);
  options.connect = [&](uint64_t cache_bytes) { return ConnectTo(flags, kPollingUs, cache_bytes); };
  options.progress = [&](const std::string& text) { progress.Show("fetch: " + text); };
  options.interrupted = Interrupted;
  const auto report = MeasureFetch(options);
  if (!report.ok()) return report.status();
  return Outcome{.text = FetchText(*report), .json = FetchJson(*report)};
}

absl::StatusOr<Outcome> RunCommand(const Flags& flags, const std::string& command) {
  if (command == "traces") return RunTraces(flags);
  ProgressLine progress;
  if (command == "model-check" || command == "frontier") return RunModel(flags, command, progress);
  if (command == "fanin") return RunFanin(flags, progress);
  if (command == "fetch") return RunFetch(flags, progress);
  return command == "replay" ? RunReplay(flags, progress) : RunLoad(flags, command, progress);
}

int Main(int argc, char** argv) {
  CLI::App app(
      "Replays recorded attention through a latentd cluster and checks it; measures latency.",
      "latent-bench");
  app.footer(
      "Exit status: 0 all is well, 1 a wrong answer, or not all that was asked for, 2 usage.");
  Flags flags;
  AddFlags(app, &flags);
  if (const auto code = ParseCommandLine(app, argc, argv)) return *code;

  const std::string command = app.get_subcommands().front()->get_name();
  absl::StatusOr<Outcome> outcome = RunCommand(flags, command);
  if (!outcome.ok()) return Fail(app, outcome.status());
  outcome->json["command"] = command;
  if (!outcome->stopped.ok()) outcome->json["stopped"] = outcome->stopped.ToString();
  if (flags.json_file == "-") {
    std::cout << outcome->json.dump(2) << "\n";
  } else {
    std::cout << outcome->text;
    if (!flags.json_file.empty()) {
      if (absl::Status s = WriteFile(flags.json_file, outcome->json.dump(2) + "\n"); !s.ok())
        return Fail(app, s);
    }
  }
  std::cout.flush();
  if (!outcome->stopped.ok()) {
    return Fail(app, absl::Status(outcome->stopped.code(),
                                  absl::StrCat("ended early, what came before is above: ",
                                               std::string(outcome->stopped.message()))));
  }
  return outcome->right ? kExitOk : kExitFailed;
}

}  // namespace
}  // namespace latentd

int main(int argc, char** argv) { return latentd::Main(argc, argv); }
