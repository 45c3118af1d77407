// What must be right about a configuration file before YAML is looked for in it.
//
// Pure; any thread.
#ifndef LATENTD_CONFIG_TEXT_CHECK_H_
#define LATENTD_CONFIG_TEXT_CHECK_H_

#include <string_view>
#include <vector>

#include "config/fault.h"

namespace latentd {

// At most one fault a line: bytes that are not UTF-8, control characters, and tabs in an
// indentation, which YAML forbids and whose parsers explain badly.
std::vector<ConfigFault> CheckText(std::string_view text, std::string_view file);

}  // namespace latentd

#endif  // LATENTD_CONFIG_TEXT_CHECK_H_
