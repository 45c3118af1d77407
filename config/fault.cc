#include "config/fault.h"

#include "absl/strings/str_cat.h"

namespace latentd {

std::string ToString(const ConfigFault& fault) {
  return absl::StrCat(fault.file, ":", fault.line, ":", fault.column, ": ", fault.message);
}

std::string ToString(std::span<const ConfigFault> faults) {
  std::string lines;
  for (const ConfigFault& fault : faults) absl::StrAppend(&lines, ToString(fault), "\n");
  return lines;
}

}  // namespace latentd
