#include "daemon/replication/chunk_slices.h"

namespace latentd {

std::vector<Slice> SlicesOf(const ChunkState& chunk, uint32_t first_token, const Layout& layout,
                            uint64_t slice_bytes) {
  const auto end_of = [&](uint32_t layer) {
    return layer < chunk.layer_tokens.size() ? chunk.layer_tokens[layer] : chunk.tokens;
  };
  std::vector<Slice> slices;
  for (uint32_t layer = 0; layer < layout.layers;) {
    uint32_t next = layer + 1;
    while (next < layout.layers && end_of(next) == end_of(layer)) ++next;
    if (end_of(layer) > first_token) {
      const ChunkRange range{.chunk = chunk.id,
                             .first_layer = layer,
                             .layers = next - layer,
                             .first_token = first_token,
                             .tokens = end_of(layer) - first_token};
      for (const Slice& slice : SliceRange(range, layout.record_bytes(), slice_bytes)) {
        slices.push_back(slice);
      }
    }
    layer = next;
  }
  return slices;
}

}  // namespace latentd
