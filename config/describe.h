// Prints the configuration that is in effect, defaults included, as YAML that loads to the same
// Config.
//
// Pure; any thread.
#ifndef LATENTD_CONFIG_DESCRIBE_H_
#define LATENTD_CONFIG_DESCRIBE_H_

#include <string>

#include "config/config.h"

namespace latentd {

std::string Describe(const Config& config);

}  // namespace latentd

#endif  // LATENTD_CONFIG_DESCRIBE_H_
