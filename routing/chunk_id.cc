#include "routing/chunk_id.h"

#include <xxhash.h>

#include <string>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "routing/little_endian.h"

namespace latentd {
namespace {

constexpr int kSlotShift = 48;
constexpr size_t kIdDigits = 32;

// The value of a hexadecimal digit, or -1.
int HexDigit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

ChunkId DeriveChunkId(const ChunkId& parent, std::span<const uint32_t> tokens, LayoutHash layout) {
  std::string bytes;
  bytes.reserve(24 + tokens.size_bytes());
  AppendLittleEndian(ToInt(layout), bytes);
  AppendLittleEndian(parent.hi, bytes);
  AppendLittleEndian(parent.lo, bytes);
  for (const uint32_t token : tokens) AppendLittleEndian(token, bytes);
  const XXH128_hash_t hash = XXH3_128bits(bytes.data(), bytes.size());
  return ChunkId{hash.high64, hash.low64};
}

ChunkId PlaceChunkId(Slot slot, Entropy128 entropy) {
  constexpr uint64_t kBelowSlot = (uint64_t{1} << kSlotShift) - 1;
  return ChunkId{uint64_t{ToInt(slot)} << kSlotShift | (entropy.hi & kBelowSlot), entropy.lo};
}

absl::StatusOr<ChunkId> ParseChunkId(std::string_view text) {
  if (text.size() != kIdDigits) {
    return absl::InvalidArgumentError(
        absl::StrCat("chunk id '", std::string(text.substr(0, 2 * kIdDigits)), "' has ",
                     text.size(), " characters, not ", kIdDigits));
  }
  ChunkId id;
  for (size_t i = 0; i < kIdDigits; ++i) {
    const int digit = HexDigit(text[i]);
    if (digit < 0) {
      return absl::InvalidArgumentError(absl::StrCat("chunk id '", std::string(text),
                                                     "' is not hexadecimal at character ", i + 1));
    }
    uint64_t& half = i < kIdDigits / 2 ? id.hi : id.lo;
    half = half << 4 | static_cast<uint64_t>(digit);
  }
  return id;
}

}  // namespace latentd
