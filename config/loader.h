// From YAML to a checked Config, or to everything that is wrong with it at once.
//
// Free functions without state; any thread. Only LoadConfigFile touches the machine: it reads that
// one file.
#ifndef LATENTD_CONFIG_LOADER_H_
#define LATENTD_CONFIG_LOADER_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "config/config.h"
#include "config/fault.h"

namespace latentd {

inline constexpr uint64_t kMaxConfigBytes = 1 * kMiB;

// Either `faults` is empty and `config` is whole, or `config` must not be used.
struct ConfigOrFaults {
  Config config;
  std::vector<ConfigFault> faults;  // in the order of the file

  bool ok() const { return faults.empty(); }
  // OK, or INVALID_ARGUMENT with all faults, a line each.
  absl::Status status() const;
};

// `file` is only the name that faults carry.
ConfigOrFaults LoadConfig(std::string_view text, std::string_view file);

// A file that cannot be read is one fault at 1:1 that says why.
ConfigOrFaults LoadConfigFile(const std::string& path);

}  // namespace latentd

#endif  // LATENTD_CONFIG_LOADER_H_
