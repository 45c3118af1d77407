// What the command lines of all tools have in common. One thread.
#ifndef LATENTD_TOOLS_COMMAND_LINE_H_
#define LATENTD_TOOLS_COMMAND_LINE_H_

#include <CLI/CLI.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "client/tls_files.h"

namespace latentd {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;  // a wrong answer, or no answer
inline constexpr int kExitUsage = 2;

struct ConnectionFlags {
  std::vector<std::string> endpoints;
  TlsFiles tls;
  double timeout_s = 10;
};

// --endpoint, --tls-ca, --tls-cert, --tls-key, --timeout.
void AddConnectionFlags(CLI::App& app, ConnectionFlags* flags);

// Parses; if the tool is to end here (--help, or a usage error that has been told), its exit code.
std::optional<int> ParseCommandLine(CLI::App& app, int argc, char** argv);

// "latentctl: UNAVAILABLE: ..." on stderr; the exit code.
int Fail(const CLI::App& app, const absl::Status& status);

}  // namespace latentd

#endif  // LATENTD_TOOLS_COMMAND_LINE_H_
