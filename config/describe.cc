#include "config/describe.h"

#include <yaml-cpp/yaml.h>

#include "absl/strings/str_cat.h"
#include "config/schema.h"

namespace latentd {

std::string Describe(const Config& config) {
  YAML::Emitter out;
  WriteMap(config, ConfigSchema(), out);
  return absl::StrCat(out.c_str(), "\n");
}

}  // namespace latentd
