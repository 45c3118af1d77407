// Whether this machine has the memory that the caches of the host's lanes will fill. An arena only
// reserves addresses when it is made, so nothing else would say so before the memory runs out.
#ifndef LATENTD_DAEMON_PROCESS_MEMORY_CHECK_H_
#define LATENTD_DAEMON_PROCESS_MEMORY_CHECK_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "config/config.h"

namespace latentd {

// One bound on what this process may still take.
struct MemoryBound {
  uint64_t bytes = 0;
  std::string source;  // "MemAvailable of /proc/meminfo"
};

// What the kernel says is available, and the limits of this process's control group (version 2) and
// of those around it. What cannot be read bounds nothing. `root` is where /proc and /sys are.
std::vector<MemoryBound> ReadMemoryBounds(const std::string& root = "");

// RESOURCE_EXHAUSTED, naming the bound, if the caches of lanes with device cpu need more together
// than one of `bounds`.
absl::Status CheckHostMemory(const Config& config, const std::vector<MemoryBound>& bounds);

}  // namespace latentd

#endif  // LATENTD_DAEMON_PROCESS_MEMORY_CHECK_H_
