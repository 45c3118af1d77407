#include "daemon/process/near_cpus.h"

#include <sched.h>

#include <fstream>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"

namespace latentd {

absl::StatusOr<std::set<int>> ParseCpuList(std::string_view list) {
  const absl::string_view text =
      absl::StripAsciiWhitespace(absl::string_view(list.data(), list.size()));
  std::set<int> cpus;
  if (text.empty()) return cpus;
  for (const absl::string_view range : absl::StrSplit(text, ',')) {
    const std::vector<absl::string_view> ends = absl::StrSplit(range, absl::MaxSplits('-', 1));
    int first = 0, last = 0;
    const bool read =
        absl::SimpleAtoi(ends.front(), &first) && absl::SimpleAtoi(ends.back(), &last);
    if (!read || first < 0 || last < first || last >= CPU_SETSIZE) {
      return absl::InvalidArgumentError(absl::StrCat("not a list of CPUs: '", text, "'"));
    }
    for (int cpu = first; cpu <= last; ++cpu) cpus.insert(cpu);
  }
  return cpus;
}

absl::StatusOr<std::set<int>> CpusNear(std::string_view pci_bus_id, const std::string& devices) {
  const std::string path = absl::StrCat(
      devices, "/", absl::AsciiStrToLower(absl::string_view(pci_bus_id.data(), pci_bus_id.size())),
      "/local_cpulist");
  std::ifstream file(path);
  std::string list;
  if (!std::getline(file, list)) return absl::NotFoundError(absl::StrCat(path, ": cannot be read"));
  absl::StatusOr<std::set<int>> cpus = ParseCpuList(list);
  if (!cpus.ok()) {
    return absl::NotFoundError(absl::StrCat(path, ": ", cpus.status().message()));
  }
  if (cpus->empty()) return absl::NotFoundError(absl::StrCat(path, ": names no CPU"));
  return cpus;
}

}  // namespace latentd
