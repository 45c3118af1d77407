// What must hold between the values of a configuration that are right each by themselves.
//
// Pure; any thread.
#ifndef LATENTD_CONFIG_CHECKS_H_
#define LATENTD_CONFIG_CHECKS_H_

#include "config/config.h"
#include "config/findings.h"

namespace latentd {

// REQUIRES: every value of `config` is within its own bounds; `findings` knows where the values
// stood and which are not known, which no check then goes by.
void CheckConfig(const Config& config, Findings& findings);

}  // namespace latentd

#endif  // LATENTD_CONFIG_CHECKS_H_
