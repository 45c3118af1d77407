#include "routing/layout.h"

#include <xxhash.h>

#include <bit>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "routing/little_endian.h"

namespace latentd {
namespace {

void AppendDouble(double value, std::string& out) {
  // -0.0 is the same parameter as 0.0.
  AppendLittleEndian(std::bit_cast<uint64_t>(value == 0 ? 0.0 : value), out);
}

}  // namespace

std::string CanonicalBytes(const Layout& layout) {
  std::string out = "latentd.layout";
  AppendLittleEndian(layout.format_version, out);
  AppendLittleEndian(static_cast<uint64_t>(layout.model.size()), out);
  out += layout.model;
  AppendLittleEndian(layout.layers, out);
  AppendLittleEndian(layout.latent_width, out);
  AppendLittleEndian(layout.rope_width, out);
  AppendLittleEndian(static_cast<uint32_t>(layout.record_format), out);
  AppendLittleEndian(layout.page_tokens, out);
  const RopeParameters& rope = layout.rope;
  AppendDouble(rope.theta, out);
  AppendDouble(rope.yarn_factor, out);
  AppendLittleEndian(rope.original_context, out);
  AppendDouble(rope.mscale, out);
  AppendDouble(rope.mscale_all_dim, out);
  AppendDouble(rope.yarn_beta_fast, out);
  AppendDouble(rope.yarn_beta_slow, out);
  AppendLittleEndian(static_cast<uint32_t>(rope.interleaved), out);
  return out;
}

LayoutHash HashLayout(const Layout& layout) {
  const std::string bytes = CanonicalBytes(layout);
  return LayoutHash{XXH3_64bits(bytes.data(), bytes.size())};
}

std::string ToString(LayoutHash hash) { return absl::StrFormat("%016x", ToInt(hash)); }

std::string ToString(const Layout& layout) {
  const RopeParameters& rope = layout.rope;
  return absl::StrCat(layout.model, " ", layout.layers, " layers, ", layout.latent_width, "+",
                      layout.rope_width, " ", std::string(RecordFormatName(layout.record_format)),
                      ", ", layout.page_tokens, "-token pages, rope theta ", rope.theta,
                      rope.yarn_factor > 1 ? absl::StrCat(" yarn ", rope.yarn_factor) : "",
                      rope.interleaved ? "" : " half-split", ", format ", layout.format_version);
}

std::string LayoutDifference(const Layout& theirs, const Layout& ours) {
  std::string text;
  const auto compare = [&text](const char* field, const auto& their, const auto& our) {
    if (their == our) return;
    absl::StrAppend(&text, text.empty() ? "" : ", ", field, " ", their, " instead of ", our);
  };
  const auto format = [](RecordFormat f) { return std::string(RecordFormatName(f)); };
  const auto pairs = [](bool interleaved) { return interleaved ? "interleaved" : "half-split"; };
  compare("model", theirs.model, ours.model);
  compare("layers", theirs.layers, ours.layers);
  compare("latent width", theirs.latent_width, ours.latent_width);
  compare("rope width", theirs.rope_width, ours.rope_width);
  compare("record", format(theirs.record_format), format(ours.record_format));
  compare("page tokens", theirs.page_tokens, ours.page_tokens);
  compare("rope theta", theirs.rope.theta, ours.rope.theta);
  compare("rope yarn_factor", theirs.rope.yarn_factor, ours.rope.yarn_factor);
  compare("rope original_context", theirs.rope.original_context, ours.rope.original_context);
  compare("rope mscale", theirs.rope.mscale, ours.rope.mscale);
  compare("rope mscale_all_dim", theirs.rope.mscale_all_dim, ours.rope.mscale_all_dim);
  compare("rope yarn_beta_fast", theirs.rope.yarn_beta_fast, ours.rope.yarn_beta_fast);
  compare("rope yarn_beta_slow", theirs.rope.yarn_beta_slow, ours.rope.yarn_beta_slow);
  compare("rope pairs", std::string(pairs(theirs.rope.interleaved)),
          std::string(pairs(ours.rope.interleaved)));
  compare("format", theirs.format_version, ours.format_version);
  return text;
}

}  // namespace latentd
