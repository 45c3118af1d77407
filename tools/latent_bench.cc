// latent-bench: replays recorded queries through a cluster and checks the answers; measures routed
// attention and the wire.
#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "absl/strings/str_cat.h"
#include "client/client.h"
#include "tools/bench_report.h"
#include "tools/command_line.h"
#include "tools/latency.h"
#include "tools/progress_line.h"
#include "tools/replay.h"
#include "tools/trace.h"

namespace latentd {
namespace {

struct Flags {
  ConnectionFlags connection;
  std::vector<std::string> transports;
  double spin_us = 50;
  std::string json_file;
  // replay
  std::vector<std::string> traces;
  std::string record;
  uint32_t chunk_tokens = 128;
  uint32_t nodes = 0;
  std::string out = "bf16";
  // latency, transport
  AttendLoadOptions load;
  double duration_s = 5;
};

void AddLoadFlags(CLI::App& command, Flags* flags) {
  LoadOptions& load = flags->load;
  command.add_option("--heads", load.heads, "heads of each query token")
      ->check(CLI::Range(1u, kMaxHeads));
  command.add_option("--query-tokens", load.query_tokens, "query tokens of each request")
      ->check(CLI::PositiveNumber);
  command.add_option("--concurrency", load.concurrency, "requests in flight")
      ->check(CLI::PositiveNumber);
  command.add_option("--requests", load.requests, "stop after so many")->check(CLI::PositiveNumber);
  command.add_option("--duration", flags->duration_s, "or after this long")
      ->check(CLI::PositiveNumber)
      ->type_name("SECONDS");
  command.add_option("--warmup", load.warmup, "requests before the first that counts");
}

void AddFlags(CLI::App& app, Flags* flags) {
  app.option_defaults()->always_capture_default();
  AddConnectionFlags(app, &flags->connection);
  app.add_option("--transports", flags->transports,
                 "UCX transports, such as tcp; default: what UCX finds")
      ->default_str("")
      ->delimiter(',');
  app.add_option("--spin", flags->spin_us,
                 "poll this long before sleeping while waiting for answers")
      ->check(CLI::NonNegativeNumber)
      ->type_name("MICROSECONDS");
  app.add_option("--json", flags->json_file,
                 "write the results to this file too; - is stdout, instead of the tables")
      ->type_name("FILE");
  app.require_subcommand(1);
  app.fallthrough();

  CLI::App& replay =
      *app.add_subcommand("replay", "publish traces, ask their queries, compare the answers");
  replay.add_option("--trace", flags->traces, "a recorded trace (.safetensors)")
      ->required()
      ->type_name("FILE");
  replay
      .add_option("--record", flags->record,
                  "record format that the cluster must hold; default: whichever it holds")
      ->check(CLI::IsMember({"bf16", "fp8"}));
  replay.add_option("--chunk-tokens", flags->chunk_tokens, "tokens of each chunk")
      ->check(CLI::PositiveNumber);
  replay.add_option("--nodes", flags->nodes,
                    "spread the chunks over so many nodes; 0: all of them");
  replay.add_option("--out", flags->out, "format of the answers")
      ->check(CLI::IsMember({"bf16", "fp32"}));

  CLI::App& latency =
      *app.add_subcommand("latency", "attend random records: latencies, and where the time goes");
  AddLoadFlags(latency, flags);
  latency.add_option("--tokens", flags->load.tokens, "tokens that each query attends")
      ->check(CLI::PositiveNumber);
  latency.add_option("--holders", flags->load.holders, "nodes that they are spread over")
      ->check(CLI::PositiveNumber);
  latency
      .add_option("--chunk-tokens", flags->load.chunk_tokens, "at most so many tokens in a chunk")
      ->check(CLI::PositiveNumber);
  latency.add_option("--record", flags->record, "record format that the cluster must hold")
      ->check(CLI::IsMember({"bf16", "fp8"}));

  CLI::App& transport = *app.add_subcommand(
      "transport", "echo messages as large as an attend's: the wire's share of its latency");
  AddLoadFlags(transport, flags);
}

absl::StatusOr<std::unique_ptr<Client>> ConnectTo(const Flags& flags) {
  auto client = Client::Connect({.endpoints = flags.connection.endpoints,
                                 .client_name = "latent-bench",
                                 .tls = flags.connection.tls,
                                 .transports = flags.transports,
                                 .connect_timeout = absl::Seconds(flags.connection.timeout_s),
                                 .call_timeout = absl::Seconds(flags.connection.timeout_s),
                                 .spin = absl::Microseconds(flags.spin_us)});
  if (!client.ok()) return client.status();
  const std::string_view held = RecordFormatName((*client)->layout().record_format);
  if (!flags.record.empty() && flags.record != held) {
    return absl::FailedPreconditionError(
        absl::StrCat("the cluster holds ", std::string(held), " records, not ", flags.record));
  }
  return client;
}

// What a command found: tables, the same as JSON, and whether all is well.
struct Outcome {
  std::string text;
  nlohmann::json json;
  bool right = true;
};

absl::StatusOr<Outcome> RunReplay(const Flags& flags, ProgressLine& progress) {
  std::vector<Trace> traces;
  for (const std::string& path : flags.traces) {
    absl::StatusOr<Trace> trace = ReadTrace(path);
    if (!trace.ok()) return trace.status();
    traces.push_back(*std::move(trace));
  }
  auto client = ConnectTo(flags);
  if (!client.ok()) return client.status();
  const ReplayOptions options = {
      .chunk_tokens = flags.chunk_tokens,
      .nodes = flags.nodes,
      .out_format = flags.out == "fp32" ? OutFormat::kFp32 : OutFormat::kBf16,
      .timeout = absl::Seconds(flags.connection.timeout_s),
      .progress = [&](const std::string& text) { progress.Show(text); }};
  std::vector<ReplayReport> reports;
  Outcome outcome;
  for (const Trace& trace : traces) {
    absl::StatusOr<ReplayReport> report = Replay(**client, trace, options);
    if (!report.ok()) return report.status();
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
  AttendLoadOptions options = flags.load;
  options.duration = absl::Seconds(flags.duration_s);
  options.timeout = absl::Seconds(flags.connection.timeout_s);
  options.progress = [&](const std::string& text) {
    progress.Show(absl::StrCat(command, ": ", text));
  };
  if (command == "transport") {
    const auto reports = MeasureWire(**client, options);
    if (!reports.ok()) return reports.status();
    return Outcome{.text = EchoText(*reports), .json = EchoJson(*reports)};
  }
  const auto report = MeasureAttend(**client, options);
  if (!report.ok()) return report.status();
  return Outcome{.text = AttendLoadText(options, *report),
                 .json = AttendLoadJson(options, *report)};
}

absl::Status WriteJson(const std::string& file, const nlohmann::json& json) {
  std::ofstream out(file);
  out << json.dump(2) << "\n";
  out.flush();
  if (!out) return absl::UnavailableError(absl::StrCat(file, ": cannot be written"));
  return absl::OkStatus();
}

int Main(int argc, char** argv) {
  CLI::App app(
      "Replays recorded attention through a latentd cluster and checks it; measures latency.",
      "latent-bench");
  app.footer("Exit status: 0 all is well, 1 a wrong answer or none, 2 usage.");
  Flags flags;
  AddFlags(app, &flags);
  if (const auto code = ParseCommandLine(app, argc, argv)) return *code;

  const std::string command = app.get_subcommands().front()->get_name();
  ProgressLine progress;
  absl::StatusOr<Outcome> outcome =
      command == "replay" ? RunReplay(flags, progress) : RunLoad(flags, command, progress);
  progress.Clear();
  if (!outcome.ok()) return Fail(app, outcome.status());
  outcome->json["command"] = command;
  if (flags.json_file == "-") {
    std::cout << outcome->json.dump(2) << "\n";
  } else {
    std::cout << outcome->text;
    if (!flags.json_file.empty()) {
      if (absl::Status s = WriteJson(flags.json_file, outcome->json); !s.ok()) return Fail(app, s);
    }
  }
  return outcome->right ? kExitOk : kExitFailed;
}

}  // namespace
}  // namespace latentd

int main(int argc, char** argv) { return latentd::Main(argc, argv); }
