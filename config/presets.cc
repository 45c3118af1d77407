#include "config/presets.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>

#include "config/model_schema.h"

namespace latentd {

std::span<const EmbeddedPreset> EmbeddedPresets() {
  static const auto& presets = *[] {
    // The build writes one line for each file of config/models.
    auto* const all = new std::vector<EmbeddedPreset>{
#include "config/embedded_models.inc"
    };
    std::sort(all->begin(), all->end(),
              [](const EmbeddedPreset& a, const EmbeddedPreset& b) { return a.name < b.name; });
    return all;
  }();
  return presets;
}

std::vector<std::string> PresetNames() {
  std::vector<std::string> names;
  for (const EmbeddedPreset& preset : EmbeddedPresets()) names.emplace_back(preset.name);
  return names;
}

ModelConfig LoadPreset(const EmbeddedPreset& preset, Findings& findings) {
  ModelConfig model;
  try {
    ReadModel(YAML::Load(std::string(preset.yaml)), "", ModelSchema(), model, findings);
  } catch (const YAML::Exception& error) {
    findings.AddFault(PositionOf(error.mark), error.msg);
  }
  return model;
}

std::optional<ModelConfig> FindPreset(std::string_view name) {
  for (const EmbeddedPreset& preset : EmbeddedPresets()) {
    if (preset.name != name) continue;
    Findings findings(preset.name);
    ModelConfig model = LoadPreset(preset, findings);
    if (findings.ok()) return model;
  }
  return std::nullopt;
}

}  // namespace latentd
