// `Layout` is the identity of the bytes that a store holds: two daemons and a frontend may exchange
// records only if their layouts are equal. Its 64-bit hash travels in every request.
//
// Values; any thread.
#ifndef LATENTD_ROUTING_LAYOUT_H_
#define LATENTD_ROUTING_LAYOUT_H_

#include <cstdint>
#include <string>

#include "kernels/mla.h"
#include "routing/ids.h"

namespace latentd {

// How the rope part of a record was rotated. Everything here changes the bytes.
struct RopeParameters {
  double theta = 10000;
  double yarn_factor = 1;  // 1: no yarn; the values down to yarn_beta_slow then say nothing
  uint32_t original_context = 0;
  double mscale = 0;
  double mscale_all_dim = 0;
  double yarn_beta_fast = 32;
  double yarn_beta_slow = 1;
  bool interleaved = true;  // pairs are (0,1), (2,3)...; false: (0, n/2), (1, n/2 + 1)...

  friend bool operator==(const RopeParameters&, const RopeParameters&) = default;
};

// Version of the page and record formats themselves: raised when the same parameters come to mean
// other bytes.
inline constexpr uint32_t kLayoutFormatVersion = 1;

struct Layout {
  std::string model;
  uint32_t layers = 0;
  uint32_t latent_width = 512;
  uint32_t rope_width = 64;
  RecordFormat record_format = RecordFormat::kBf16;
  uint32_t page_tokens = kPageTokens;
  RopeParameters rope;
  uint32_t format_version = kLayoutFormatVersion;

  constexpr Geometry geometry() const { return {latent_width, rope_width}; }
  constexpr uint64_t record_bytes() const { return RecordBytes(geometry(), record_format); }
  constexpr uint64_t layer_bytes() const { return page_tokens * record_bytes(); }
  constexpr uint64_t page_bytes() const { return layers * layer_bytes(); }

  friend bool operator==(const Layout&, const Layout&) = default;
};

// The bytes that are hashed: every field in a fixed order, little-endian, doubles by their bits,
// the name preceded by its length. Stable for ever within a format version.
std::string CanonicalBytes(const Layout& layout);

// xxh3 of CanonicalBytes. Equal layouts have equal hashes on every machine and in every build.
LayoutHash HashLayout(const Layout& layout);

// 16 hexadecimal digits.
std::string ToString(LayoutHash hash);

// For messages: "deepseek-v3 61 layers, 512+64 fp8, 64-token pages, rope theta 10000 yarn 40,
// format 1".
std::string ToString(const Layout& layout);

// The fields in which `theirs` is another layout, for messages: "layers 27 instead of 61, record
// fp8 instead of bf16". Empty: they are equal.
std::string LayoutDifference(const Layout& theirs, const Layout& ours);

}  // namespace latentd

#endif  // LATENTD_ROUTING_LAYOUT_H_
