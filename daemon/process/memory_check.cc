#include "daemon/process/memory_check.h"

#include <fstream>
#include <optional>
#include <string_view>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace latentd {
namespace {

std::optional<uint64_t> ReadAvailable(const std::string& root) {
  std::ifstream file(root + "/proc/meminfo");
  std::string name;
  uint64_t kib = 0;
  for (std::string unit; file >> name >> kib; std::getline(file, unit)) {
    if (name == "MemAvailable:") return kib * 1024;
  }
  return std::nullopt;
}

// The path of this process's control group, below /sys/fs/cgroup: "/system.slice/latentd.service".
std::optional<std::string> ReadControlGroup(const std::string& root) {
  std::ifstream file(root + "/proc/self/cgroup");
  for (std::string line; std::getline(file, line);) {
    absl::string_view path = line;
    if (absl::ConsumePrefix(&path, "0::")) return std::string(path);
  }
  return std::nullopt;
}

// Nothing if there is no limit: the file is missing or says "max".
std::optional<uint64_t> ReadNumber(const std::string& path) {
  std::ifstream file(path);
  std::string text;
  uint64_t number = 0;
  if (!(file >> text) || !absl::SimpleAtoi(text, &number)) return std::nullopt;
  return number;
}

}  // namespace

std::vector<MemoryBound> ReadMemoryBounds(const std::string& root) {
  std::vector<MemoryBound> bounds;
  if (const auto available = ReadAvailable(root)) {
    bounds.push_back({*available, "MemAvailable of /proc/meminfo"});
  }
  std::string group = ReadControlGroup(root).value_or("");
  while (!group.empty() && group != "/") {
    const std::string file = absl::StrCat("/sys/fs/cgroup", group, "/memory.max");
    if (const auto limit = ReadNumber(root + file)) bounds.push_back({*limit, file});
    group.resize(group.rfind('/'));
  }
  return bounds;
}

absl::Status CheckHostMemory(const Config& config, const std::vector<MemoryBound>& bounds) {
  uint64_t cache_bytes = 0;
  for (const LaneConfig& lane : config.data.lanes) {
    if (lane.device.kind == DeviceKind::kCpu) cache_bytes += lane.cache_bytes;
  }
  for (const MemoryBound& bound : bounds) {
    if (cache_bytes <= bound.bytes) continue;
    return absl::ResourceExhaustedError(
        absl::StrCat("data.lanes: the caches in the host's memory need ", cache_bytes,
                     " bytes together, but there are ", bound.bytes, " (", bound.source, ")"));
  }
  return absl::OkStatus();
}

}  // namespace latentd
