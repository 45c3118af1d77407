// What the command lines of all tools have in common. One thread.
#ifndef LATENTD_TOOLS_COMMAND_LINE_H_
#define LATENTD_TOOLS_COMMAND_LINE_H_

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "client/tls_files.h"

namespace latentd {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;  // a wrong answer, or no answer
inline constexpr int kExitUsage = 2;

// The most that an option of so many requests, chunks or bytes takes; its values are 32 bits wide.
inline constexpr uint64_t kMaxCount = uint64_t{1} << 30;

struct ConnectionFlags {
  std::vector<std::string> endpoints;
  TlsFiles tls;
  double timeout_s = 10;
};

// Before anything is added to it: --version, and how its help looks.
void SetUp(CLI::App& app);
// --endpoint, --tls-ca, --tls-cert, --tls-key, --timeout: before the commands, whose help shows them
// too. Returns --endpoint, which is required.
CLI::Option* AddConnectionFlags(CLI::App& app, ConnectionFlags* flags);

// Check an option's text; what is wrong with it is said in a line.
CLI::Validator WholeNumber(uint64_t least, uint64_t most = kMaxCount);
CLI::Validator PositiveSeconds();  // up to a day

// Parses; if the tool is to end here (--help, or a usage error that has been told), its exit code.
std::optional<int> ParseCommandLine(CLI::App& app, int argc, char** argv);

// "latentctl: UNAVAILABLE: ..." on stderr; the exit code.
int Fail(const CLI::App& app, const absl::Status& status);

}  // namespace latentd

#endif  // LATENTD_TOOLS_COMMAND_LINE_H_
