#include "config/model_schema.h"

#include "kernels/validate.h"

namespace latentd {
namespace {

constexpr uint64_t kMaxLayers = 1024;
constexpr uint64_t kMaxWidth = 16384;
constexpr uint64_t kMaxContext = uint64_t{1} << 31;

Schema<RopeParameters> RopeSchema() {
  using R = RopeParameters;
  return {
      ScalarKey("theta", &R::theta, NumberCodec(1, 1e12), "Base of the rotation's frequencies."),
      ScalarKey(
          "interleaved", &R::interleaved, FlagCodec(),
          "Whether neighbouring values rotate as a pair; if false, a value pairs with the one "
          "half the width away."),
      ScalarKey("yarn_factor", &R::yarn_factor, NumberCodec(1, 1e6),
                "Factor by which YaRN stretches the context; 1 is no YaRN."),
      ScalarKey("original_context", &R::original_context, CountCodec(0, kMaxContext),
                "Context in tokens before YaRN."),
      ScalarKey("mscale", &R::mscale, NumberCodec(0, 100), "YaRN's mscale."),
      ScalarKey("mscale_all_dim", &R::mscale_all_dim, NumberCodec(0, 100),
                "YaRN's mscale_all_dim; it enters the softmax scale."),
      ScalarKey("yarn_beta_fast", &R::yarn_beta_fast, NumberCodec(0, 1e6), "YaRN's beta_fast."),
      ScalarKey("yarn_beta_slow", &R::yarn_beta_slow, NumberCodec(0, 1e6), "YaRN's beta_slow."),
  };
}

}  // namespace

const Schema<ModelConfig>& ModelSchema() {
  using M = ModelConfig;
  static const auto& schema = *new Schema<ModelConfig>{
      ScalarKey("name", &M::name, TextCodec(), "Name of the model; part of the layout.",
                Presence::kRequired),
      ScalarKey("layers", &M::layers, CountCodec(1, kMaxLayers),
                "Layers whose records are held. Add the model's layers for speculation here if "
                "their cache is to be held too.",
                Presence::kRequired),
      ScalarKey("heads", &M::heads, CountCodec(1, kMaxHeads), "Query heads.", Presence::kRequired),
      ScalarKey("latent", &M::latent_width, CountCodec(1, kMaxLatentWidth),
                "Latent values of a record; a multiple of 128 for fp8 records."),
      ScalarKey("rope", &M::rope_width, CountCodec(2, kMaxRopeWidth),
                "Rope values of a record; an even number."),
      ScalarKey("nope", &M::nope_width, CountCodec(1, kMaxWidth),
                "Width of a head's query without the rope part."),
      ScalarKey("value", &M::value_width, CountCodec(1, kMaxWidth), "Width of a head's value."),
      MapKey("rope_parameters", &M::rope, RopeSchema(),
             "How the rope part is rotated; part of the layout."),
      ScalarKey("softmax_scale", &M::softmax_scale, NumberCodec(1e-6, 1e3),
                "Softmax scale; without it (nope + rope)^-0.5, times (0.1 mscale_all_dim "
                "ln(yarn_factor) + 1)^2 under YaRN."),
  };
  return schema;
}

void ReadModel(const YAML::Node& value, const std::string& path, const Schema<ModelConfig>& schema,
               ModelConfig& model, Findings& findings) {
  ReadMap(value, path, schema, model, findings);
  if (!findings.WasGiven(JoinPath(path, "softmax_scale"))) {
    model.softmax_scale = SoftmaxScaleRule(model);
  }
  if (model.rope.yarn_factor > 1 && model.rope.original_context == 0) {
    findings.AddFaultAt(JoinPath(path, "rope_parameters.original_context"),
                        "must be given with a yarn_factor above 1");
  }
}

}  // namespace latentd
