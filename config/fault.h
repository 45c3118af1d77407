// One thing that is wrong in a configuration file, and where.
//
// Values; any thread.
#ifndef LATENTD_CONFIG_FAULT_H_
#define LATENTD_CONFIG_FAULT_H_

#include <compare>
#include <span>
#include <string>

namespace latentd {

struct ConfigFault {
  std::string file;
  int line = 1;  // both count from 1
  int column = 1;
  std::string message;

  friend auto operator<=>(const ConfigFault&, const ConfigFault&) = default;
};

// "latentd.yaml:12:7: message", as compilers write it.
std::string ToString(const ConfigFault& fault);

// One line each, each ending in a newline.
std::string ToString(std::span<const ConfigFault> faults);

}  // namespace latentd

#endif  // LATENTD_CONFIG_FAULT_H_
