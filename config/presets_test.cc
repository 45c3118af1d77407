#include "config/presets.h"

#include <catch2/catch.hpp>
#include <cmath>

namespace latentd {
namespace {

TEST_CASE("every preset loads and is named as its file") {
  for (const EmbeddedPreset& preset : EmbeddedPresets()) {
    Findings findings(preset.name);
    const ModelConfig model = LoadPreset(preset, findings);
    CHECK(ToString(std::span<const ConfigFault>(findings.TakeFaults())) == "");
    CHECK(model.name == preset.name);
    CHECK(FindPreset(preset.name) == model);
  }
}

TEST_CASE("the presets are those that are documented") {
  CHECK(PresetNames() == std::vector<std::string>{"deepseek-v2-lite", "deepseek-v3",
                                                  "deepseek-v3.2", "glm-5", "kimi-k2",
                                                  "kimi-k2-0905", "tiny"});
  CHECK_FALSE(FindPreset("gpt-2").has_value());
  CHECK_FALSE(FindPreset("").has_value());
}

TEST_CASE("a preset's softmax scale is the one that follows from its rope parameters") {
  for (const EmbeddedPreset& preset : EmbeddedPresets()) {
    // As written in the file: without it the loader would apply the rule itself.
    REQUIRE(preset.yaml.find("softmax_scale: ") != std::string_view::npos);
    const ModelConfig model = FindPreset(preset.name).value();
    CHECK(model.softmax_scale == Approx(SoftmaxScaleRule(model)).epsilon(1e-12));
  }
}

TEST_CASE("geometry and scale are those published") {
  struct Published {
    const char* name;
    uint32_t layers, heads, nope, value;
    double scale;  // as many digits as are published
    double theta, yarn_factor, mscale_all_dim;
  };
  for (const Published& p : {
           Published{"deepseek-v2-lite", 27, 16, 128, 128, 0.114721, 1e4, 40, 0.707},
           Published{"deepseek-v3", 61, 128, 128, 128, 0.1352337788608801, 1e4, 40, 1},
           Published{"deepseek-v3.2", 61, 128, 128, 128, 0.1352337788608801, 1e4, 40, 1},
           Published{"kimi-k2", 61, 64, 128, 128, 0.130861, 5e4, 32, 1},
           Published{"kimi-k2-0905", 61, 64, 128, 128, 0.144680, 5e4, 64, 1},
           Published{"glm-5", 78, 64, 192, 256, 0.0625, 1e6, 1, 0},
       }) {
    const ModelConfig model = FindPreset(p.name).value();
    CHECK(model.layers == p.layers);
    CHECK(model.heads == p.heads);
    CHECK(model.latent_width == 512);
    CHECK(model.rope_width == 64);
    CHECK(model.nope_width == p.nope);
    CHECK(model.value_width == p.value);
    CHECK(std::abs(model.softmax_scale - p.scale) < 1e-6);
    CHECK(model.rope.theta == p.theta);
    CHECK(model.rope.yarn_factor == p.yarn_factor);
    CHECK(model.rope.mscale_all_dim == p.mscale_all_dim);
    CHECK(model.rope.interleaved);
  }
}

}  // namespace
}  // namespace latentd
