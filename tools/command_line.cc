#include "tools/command_line.h"

#include <iostream>
#include <optional>

namespace latentd {

void AddConnectionFlags(CLI::App& app, ConnectionFlags* flags) {
  app.add_option("--endpoint", flags->endpoints,
                 "HOST:PORT of a daemon's control plane; several: the first that answers")
      ->required()
      ->default_str("")
      ->delimiter(',')
      ->type_name("HOST:PORT");
  app.add_option("--tls-ca", flags->tls.ca, "CA certificates (PEM); with it the connection is TLS")
      ->type_name("FILE");
  app.add_option("--tls-cert", flags->tls.cert, "this tool's own certificate (PEM)")
      ->type_name("FILE");
  app.add_option("--tls-key", flags->tls.key, "its key (PEM)")->type_name("FILE");
  app.add_option("--timeout", flags->timeout_s, "give up on a request after this long")
      ->check(CLI::PositiveNumber)
      ->type_name("SECONDS")
      ->capture_default_str();
}

std::optional<int> ParseCommandLine(CLI::App& app, int argc, char** argv) {
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kExitOk : kExitUsage;
  }
  return std::nullopt;
}

int Fail(const CLI::App& app, const absl::Status& status) {
  std::cerr << app.get_name() << ": " << absl::StatusCodeToString(status.code()) << ": "
            << status.message() << "\n";
  return kExitFailed;
}

}  // namespace latentd
