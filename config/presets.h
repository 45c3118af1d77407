// The models that the daemon knows by name. They are built into the binary from
// config/models/*.yaml.
//
// Pure; any thread.
#ifndef LATENTD_CONFIG_PRESETS_H_
#define LATENTD_CONFIG_PRESETS_H_

#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "config/config.h"
#include "config/findings.h"

namespace latentd {

struct EmbeddedPreset {
  std::string_view name;  // the file's name without ".yaml"
  std::string_view yaml;
};

// Ordered by name.
std::span<const EmbeddedPreset> EmbeddedPresets();

std::vector<std::string> PresetNames();

// Reads one preset; what is wrong goes to the findings (a test keeps that from happening).
ModelConfig LoadPreset(const EmbeddedPreset& preset, Findings& findings);

// The preset's model, or nothing if there is none of that name.
std::optional<ModelConfig> FindPreset(std::string_view name);

}  // namespace latentd

#endif  // LATENTD_CONFIG_PRESETS_H_
