// The keys of a model, inline in the configuration or in a preset's file.
//
// Pure; any thread.
#ifndef LATENTD_CONFIG_MODEL_SCHEMA_H_
#define LATENTD_CONFIG_MODEL_SCHEMA_H_

#include "config/config.h"
#include "config/key.h"

namespace latentd {

const Schema<ModelConfig>& ModelSchema();

// Reads a model over `model`, which holds defaults, by ModelSchema() or a variant of it. Without
// `softmax_scale` the scale is by rule.
void ReadModel(const YAML::Node& value, const std::string& path, const Schema<ModelConfig>& schema,
               ModelConfig& model, Findings& findings);

}  // namespace latentd

#endif  // LATENTD_CONFIG_MODEL_SCHEMA_H_
