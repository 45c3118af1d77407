#include "tools/command_line.h"

#include <iostream>
#include <memory>
#include <optional>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "client/endpoint.h"
#include "daemon/process/version.h"

namespace latentd {
namespace {

constexpr char kEverywhere[] = "Options of every command";
constexpr double kMaxSeconds = 24 * 3600;

// A command's help shows the options that it shares with the others.
class HelpFormatter final : public CLI::Formatter {
 public:
  std::string make_footer(const CLI::App* app) const override {
    std::string shared;
    if (const CLI::App* parent = app->get_parent(); parent != nullptr) {
      shared = make_group(kEverywhere, false, parent->get_options([](const CLI::Option* option) {
        return option->get_group() == kEverywhere;
      }));
    }
    // A group begins with an empty line, and so does a footer.
    return absl::StrCat(absl::StripPrefix(shared, "\n"), shared.empty() ? "" : "\n",
                        CLI::Formatter::make_footer(app));
  }
};

// CLI11 speaks of what is missing before it speaks of what it did not understand.
std::string Explain(const CLI::App& app, const CLI::ParseError& error) {
  if (!app.get_subcommands().empty()) return error.what();
  std::vector<std::string> names;
  for (const CLI::App* command : app.get_subcommands({})) names.push_back(command->get_name());
  const std::string commands = absl::StrJoin(names, ", ");
  for (const std::string& word : app.remaining()) {
    if (word.empty() || word.front() == '-') continue;
    return absl::StrCat("unknown command '", word, "'; there are ", commands);
  }
  if (error.get_name() == "RequiredError") return "a command is missing: one of " + commands;
  return error.what();
}

}  // namespace

void SetUp(CLI::App& app) {
  app.formatter(std::make_shared<HelpFormatter>());
  app.set_version_flag("--version", absl::StrCat(app.get_name(), " ", kVersion));
}

CLI::Option* AddConnectionFlags(CLI::App& app, ConnectionFlags* flags) {
  CLI::Option* endpoint =
      app.add_option("--endpoint", flags->endpoints,
                     "of a daemon's control plane; several: the first that answers")
          ->required()
          ->default_str("")
          ->delimiter(',')
          ->allow_extra_args(false)
          ->check(
              [](const std::string& text) { return std::string(CheckEndpoint(text).message()); })
          ->type_name("HOST:PORT[,...]")
          ->group(kEverywhere);
  app.add_option("--tls-ca", flags->tls.ca, "CA certificates (PEM); with it the connection is TLS")
      ->type_name("FILE")
      ->group(kEverywhere);
  app.add_option("--tls-cert", flags->tls.cert, "this tool's own certificate (PEM)")
      ->type_name("FILE")
      ->group(kEverywhere);
  app.add_option("--tls-key", flags->tls.key, "its key (PEM)")
      ->type_name("FILE")
      ->group(kEverywhere);
  app.add_option("--timeout", flags->timeout_s,
                 "give up on a request after this long; on a daemon that greets no new connection, "
                 "after 2 s")
      ->check(PositiveSeconds())
      ->type_name("SECONDS")
      ->capture_default_str()
      ->group(kEverywhere);
  return endpoint;
}

CLI::Validator WholeNumber(uint64_t least, uint64_t most) {
  return CLI::Validator(
      [least, most](const std::string& text) -> std::string {
        uint64_t value = 0;
        if (absl::SimpleAtoi(text, &value) && value >= least && value <= most) return "";
        return absl::StrCat("'", text, "': expected a whole number from ", least, " to ", most);
      },
      "");
}

CLI::Validator PositiveSeconds() {
  return CLI::Validator(
      [](const std::string& text) -> std::string {
        double value = 0;
        if (absl::SimpleAtod(text, &value) && value > 0 && value <= kMaxSeconds) return "";
        return absl::StrCat("'", text, "': expected seconds, above 0 and up to ", kMaxSeconds);
      },
      "");
}

std::optional<int> ParseCommandLine(CLI::App& app, int argc, char** argv) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::Success& help) {
    return app.exit(help) == 0 ? kExitOk : kExitUsage;
  } catch (const CLI::ParseError& error) {
    std::cerr << app.get_name() << ": " << Explain(app, error) << "\nRun with --help for more.\n";
    return kExitUsage;
  }
  return std::nullopt;
}

int Fail(const CLI::App& app, const absl::Status& status) {
  std::cerr << app.get_name() << ": " << absl::StatusCodeToString(status.code()) << ": "
            << status.message() << "\n";
  return kExitFailed;
}

}  // namespace latentd
