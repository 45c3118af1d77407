// latentd: the daemon's command line. What it does is in daemon/process/.
#include <CLI/CLI.hpp>
#include <filesystem>
#include <iostream>
#include <string>

#include "config/describe.h"
#include "config/loader.h"
#include "daemon/process/run.h"
#include "daemon/process/signals.h"
#include "daemon/process/version.h"

namespace latentd {
namespace {

constexpr char kDefaultConfig[] = "/etc/latentd/latentd.yaml";

struct CommandLine {
  std::string config;
  std::string check_config;
  bool print_config = false;
  std::string print_config_file;

  // The file that the daemon reads. Empty: none was named and the default is not there.
  std::string ConfigFile() const {
    if (!config.empty()) return config;
    std::error_code ignored;
    return std::filesystem::exists(kDefaultConfig, ignored) ? kDefaultConfig : "";
  }
};

int CheckConfig(const std::string& file) {
  const ConfigOrFaults loaded = LoadConfigFile(file);
  if (!loaded.ok()) {
    std::cerr << ToString(loaded.faults);
    return kExitConfiguration;
  }
  std::cout << file << ": ok\n";
  return kExitOk;
}

int PrintConfig(const std::string& file) {
  const ConfigOrFaults loaded = LoadConfigFile(file);
  if (!loaded.ok()) {
    std::cerr << ToString(loaded.faults);
    return kExitConfiguration;
  }
  std::cout << Describe(loaded.config);
  return kExitOk;
}

int Run(const CommandLine& command) {
  if (!command.check_config.empty()) return CheckConfig(command.check_config);
  std::string file = command.print_config_file;
  if (file.empty()) file = command.ConfigFile();
  if (file.empty()) {
    std::cerr << "latentd: no configuration: " << kDefaultConfig
              << " does not exist; name a file with --config FILE\n";
    return kExitConfiguration;
  }
  if (command.print_config) return PrintConfig(file);

  const ConfigOrFaults loaded = LoadConfigFile(file);
  if (!loaded.ok()) {
    std::cerr << ToString(loaded.faults);
    return kExitConfiguration;
  }
  return RunDaemon(loaded.config);
}

int Main(int argc, char** argv) {
  // Before any library starts a thread.
  BlockSignals();
  CommandLine command;
  CLI::App app("latentd: a distributed attention daemon for Multi-head Latent Attention",
               "latentd");
  app.add_option("--config", command.config,
                 std::string("Configuration (default: ") + kDefaultConfig + ")")
      ->type_name("FILE");
  app.add_option(
         "--check-config", command.check_config,
         "Tell everything that is wrong with a configuration, and exit: 0 nothing, 2 something")
      ->type_name("FILE");
  app.add_option("--print-config", command.print_config_file,
                 "Print a configuration as it takes effect, defaults included, and exit "
                 "(without FILE: the one of --config)")
      ->type_name("[FILE]")
      ->expected(0, 1);
  app.set_version_flag("--version", std::string("latentd ") + kVersion,
                       "Print the version and exit");
  app.footer(
      "Exit codes: 0 stopped as told; 1 could not start, failed, or told twice to stop with "
      "requests in flight; "
      "2 command line or configuration.");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitOk : kExitConfiguration;
  }
  command.print_config = app.count("--print-config") > 0;
  return Run(command);
}

}  // namespace
}  // namespace latentd

int main(int argc, char** argv) { return latentd::Main(argc, argv); }
