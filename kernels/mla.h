// The attention problem of Multi-head Latent Attention, stated once for every backend.
//
// A *row* is one (token, head) absorbed query: `latent_width` latent values followed by
// `rope_width` rope values, bf16. A *latent record* is what one token stores in one layer.
// Attention of a row over the n records that it may see is
//     s_j = scale * dot(row, record_j)            over latent_width + rope_width values
//     lse = log(sum_j exp(s_j))                   natural logarithm
//     out = sum_j exp(s_j - lse) * latent(record_j)  over latent_width values
// and (out, lse) is the row's *partial* over those records. A row that sees nothing has out = 0 and
// lse = -inf; no partial ever holds a NaN or +inf.
//
// Records live in pages of kPageTokens consecutive tokens of one chunk, all layers:
// [layer][kPageTokens][record]. Everything here is a value or a view; nothing owns memory and
// nothing is synchronised.
#ifndef LATENTD_KERNELS_MLA_H_
#define LATENTD_KERNELS_MLA_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace latentd {

// A bfloat16 value as its bits (the upper half of an IEEE fp32).
struct Bf16 {
  uint16_t bits = 0;
};
static_assert(sizeof(Bf16) == 2);

inline constexpr uint32_t kPageTokens = 64;
inline constexpr uint32_t kMaxHeads = 128;
// fp8 records carry one fp32 scale for each run of this many latent values.
inline constexpr uint32_t kFp8ScaleWidth = 128;

// Widths of a record's two parts, in values.
struct Geometry {
  uint32_t latent_width = 512;
  uint32_t rope_width = 64;

  constexpr uint32_t row_width() const { return latent_width + rope_width; }
  friend bool operator==(const Geometry&, const Geometry&) = default;
};

enum class RecordFormat : uint8_t {
  kBf16 = 1,  // latent bf16 | rope bf16
  kFp8 = 2,   // latent e4m3 | one fp32 scale per kFp8ScaleWidth latent values | rope bf16
};

constexpr std::string_view RecordFormatName(RecordFormat format) {
  return format == RecordFormat::kBf16 ? "bf16" : "fp8";
}

// Bytes of one latent record: 1152 (bf16) or 656 (fp8) at the usual 512 + 64 values.
constexpr uint64_t RecordBytes(const Geometry& g, RecordFormat format) {
  return format == RecordFormat::kBf16
             ? uint64_t{2} * g.row_width()
             : uint64_t{g.latent_width} + sizeof(float) * (g.latent_width / kFp8ScaleWidth) +
                   uint64_t{2} * g.rope_width;
}

// Where the records of a store are: page p of layer l starts at arena + p * page_bytes + l *
// layer_bytes.
struct CacheView {
  const std::byte* arena = nullptr;
  uint64_t page_bytes = 0;
  uint64_t layer_bytes = 0;  // kPageTokens * RecordBytes(...)
};

// The same, of one who may change them.
struct PageMemory {
  std::byte* arena = nullptr;
  uint64_t page_bytes = 0;
  uint64_t layer_bytes = 0;
};

// The part of one chunk that a group attends: its first `visible_tokens` tokens.
//
// `tokens_after` is the number of visible tokens of the same group that follow this chunk in the
// sequence, wherever they are held. Query token i of a causal group of n tokens sees
//     clamp(visible_tokens - max(0, (n - 1 - i) - tokens_after), 0, visible_tokens)
// tokens of this segment: the last query token sees everything, each earlier one loses one more
// token from the group's end. In a group that is not causal every query token sees visible_tokens.
//
// Two segments with the same `page_ids` pointer are the same chunk: backends share one pass over
// its records.
struct Segment {
  const uint32_t* page_ids = nullptr;  // [ceil(visible_tokens / kPageTokens)]
  uint32_t visible_tokens = 0;
  uint32_t tokens_after = 0;
};

// Query tokens [first_token, first_token + tokens) that attend the same segments.
struct Group {
  uint32_t first_token = 0;
  uint32_t tokens = 0;
  uint32_t first_segment = 0;  // index into Problem::segments
  uint32_t segments = 0;
  bool causal = false;
};

constexpr uint32_t VisibleTokens(const Segment& segment, const Group& group,
                                 uint32_t token_in_group) {
  if (!group.causal) return segment.visible_tokens;
  const uint32_t later = group.tokens - 1 - token_in_group;
  const uint32_t cut = later > segment.tokens_after ? later - segment.tokens_after : 0;
  return segment.visible_tokens > cut ? segment.visible_tokens - cut : 0;
}

enum class OutFormat : uint8_t { kBf16 = 1, kFp32 = 2 };

constexpr uint32_t OutValueBytes(OutFormat format) { return format == OutFormat::kBf16 ? 2 : 4; }

// One requester's attention in one layer.
struct Problem {
  uint32_t layer = 0;
  uint32_t tokens = 0;
  uint32_t heads = 0;  // 1..kMaxHeads
  float scale = 0;     // the request's; never derived from the widths
  // Groups cover [0, tokens) in order, without gaps or overlap.
  std::span<const Group> groups;
  std::span<const Segment> segments;
  const Bf16* rows = nullptr;  // [tokens][heads][latent_width + rope_width]
  OutFormat out_format = OutFormat::kBf16;
  void* out = nullptr;   // [tokens][heads][latent_width] of out_format
  float* lse = nullptr;  // [tokens][heads]
};

}  // namespace latentd

#endif  // LATENTD_KERNELS_MLA_H_
