#include "daemon/metrics/process_metrics.h"

#include <dirent.h>
#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <optional>
#include <sstream>
#include <string>

namespace latentd {
namespace {

using prometheus::MetricType;

// Fields of /proc/self/stat that are used here; see proc(5).
struct ProcessStat {
  double cpu_seconds = 0;
  double threads = 0;
  double start_ticks = 0;  // after boot
  double virtual_bytes = 0;
  double resident_bytes = 0;
};

std::optional<ProcessStat> ReadStat() {
  std::ifstream file("/proc/self/stat");
  std::string text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  // The command's name comes second, in parentheses, and may hold anything.
  const size_t name_end = text.rfind(')');
  if (name_end == std::string::npos) return std::nullopt;
  std::istringstream fields(text.substr(name_end + 1));
  std::string skipped;
  for (int field = 3; field < 14; ++field) fields >> skipped;
  double user = 0;
  double system = 0;
  ProcessStat stat;
  double resident_pages = 0;
  fields >> user >> system >> skipped >> skipped >> skipped >> skipped >> stat.threads >> skipped >>
      stat.start_ticks >> stat.virtual_bytes >> resident_pages;
  if (!fields) return std::nullopt;
  stat.cpu_seconds = (user + system) / static_cast<double>(sysconf(_SC_CLK_TCK));
  stat.resident_bytes = resident_pages * static_cast<double>(sysconf(_SC_PAGESIZE));
  return stat;
}

// Seconds since 1970 of the boot, which start times are counted from.
std::optional<double> ReadBootTime() {
  std::ifstream file("/proc/stat");
  std::string key;
  while (file >> key) {
    double value = 0;
    if (key == "btime" && file >> value) return value;
    std::getline(file, key);
  }
  return std::nullopt;
}

std::optional<double> CountOpenFiles() {
  DIR* directory = opendir("/proc/self/fd");
  if (directory == nullptr) return std::nullopt;
  double count = -1;  // the directory itself is open now
  while (const dirent* entry = readdir(directory)) {
    if (entry->d_name[0] != '.') ++count;
  }
  closedir(directory);
  return count;
}

}  // namespace

void AppendProcessMetrics(MetricFamilies& to) {
  if (const std::optional<ProcessStat> stat = ReadStat()) {
    AddSingle(to, "process_cpu_seconds_total", "User and system CPU time spent.",
              MetricType::Counter, stat->cpu_seconds);
    AddSingle(to, "process_threads", "Threads.", MetricType::Gauge, stat->threads);
    AddSingle(to, "process_virtual_memory_bytes", "Size of the address space.", MetricType::Gauge,
              stat->virtual_bytes);
    AddSingle(to, "process_resident_memory_bytes", "Memory resident, the cache's included.",
              MetricType::Gauge, stat->resident_bytes);
    if (const std::optional<double> boot = ReadBootTime()) {
      AddSingle(to, "process_start_time_seconds", "Start of the process, in seconds since 1970.",
                MetricType::Gauge,
                *boot + stat->start_ticks / static_cast<double>(sysconf(_SC_CLK_TCK)));
    }
  }
  if (const std::optional<double> open = CountOpenFiles()) {
    AddSingle(to, "process_open_fds", "Open file descriptors.", MetricType::Gauge, *open);
  }
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    AddSingle(to, "process_max_fds", "Limit on open file descriptors.", MetricType::Gauge,
              static_cast<double>(limit.rlim_cur));
  }
}

}  // namespace latentd
