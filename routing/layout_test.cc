#include "routing/layout.h"

#include <functional>
#include <set>
#include <vector>

#include <catch2/catch.hpp>

namespace latentd {
namespace {

Layout DeepSeekV3() {
  Layout layout;
  layout.model = "deepseek-v3";
  layout.layers = 61;
  layout.record_format = RecordFormat::kFp8;
  layout.rope = {.theta = 10000,
                 .yarn_factor = 40,
                 .original_context = 4096,
                 .mscale = 1,
                 .mscale_all_dim = 1};
  return layout;
}

TEST_CASE("equal layouts have equal hashes") {
  CHECK(HashLayout(DeepSeekV3()) == HashLayout(DeepSeekV3()));
}

TEST_CASE("a change of any field changes the hash") {
  const std::vector<std::function<void(Layout&)>> changes = {
      [](Layout&) {},
      [](Layout& l) { l.model = "deepseek-v3.2"; },
      [](Layout& l) { l.model = ""; },
      [](Layout& l) { l.layers = 62; },
      [](Layout& l) { l.latent_width = 256; },
      [](Layout& l) { l.rope_width = 32; },
      [](Layout& l) { l.record_format = RecordFormat::kBf16; },
      [](Layout& l) { l.page_tokens = 128; },
      [](Layout& l) { l.format_version = 2; },
      [](Layout& l) { l.rope.theta = 50000; },
      [](Layout& l) { l.rope.yarn_factor = 64; },
      [](Layout& l) { l.rope.original_context = 8192; },
      [](Layout& l) { l.rope.mscale = 0.707; },
      [](Layout& l) { l.rope.mscale_all_dim = 0.707; },
      [](Layout& l) { l.rope.yarn_beta_fast = 1; },
      [](Layout& l) { l.rope.yarn_beta_slow = 2; },
      [](Layout& l) { l.rope.interleaved = false; },
  };
  std::set<LayoutHash> hashes;
  std::set<std::string> differences;
  for (const auto& change : changes) {
    Layout layout = DeepSeekV3();
    change(layout);
    hashes.insert(HashLayout(layout));
    differences.insert(LayoutDifference(layout, DeepSeekV3()));
  }
  CHECK(hashes.size() == changes.size());
  CHECK(differences.size() == changes.size());
}

TEST_CASE("a difference names the fields and both values") {
  Layout other = DeepSeekV3();
  CHECK(LayoutDifference(other, DeepSeekV3()).empty());
  other.layers = 27;
  other.record_format = RecordFormat::kBf16;
  CHECK(LayoutDifference(other, DeepSeekV3()) ==
        "layers 27 instead of 61, record bf16 instead of fp8");
}

TEST_CASE("negative zero is the same parameter as zero") {
  Layout zero = DeepSeekV3();
  Layout negative_zero = DeepSeekV3();
  zero.rope.mscale = 0.0;
  negative_zero.rope.mscale = -0.0;
  CHECK(HashLayout(zero) == HashLayout(negative_zero));
}

// Stored ids and running peers depend on it.
TEST_CASE("the hash never changes between builds") {
  CHECK(CanonicalBytes(DeepSeekV3()).size() == 113);
  CHECK(ToString(HashLayout(DeepSeekV3())) == "08642bc1d9dee440");
  CHECK(ToString(HashLayout(Layout{})) == "5bb3d7abbc32ab75");
}

TEST_CASE("a page holds every layer of its tokens") {
  Layout layout = DeepSeekV3();
  CHECK(layout.record_bytes() == 656);
  CHECK(layout.page_bytes() == uint64_t{61} * 64 * 656);
  layout.record_format = RecordFormat::kBf16;
  CHECK(layout.page_bytes() == uint64_t{61} * 64 * 1152);
}

TEST_CASE("a layout is described in one line") {
  CHECK(ToString(DeepSeekV3()) ==
        "deepseek-v3 61 layers, 512+64 fp8, 64-token pages, rope theta 10000 yarn 40, format 1");
}

}  // namespace
}  // namespace latentd
