#include "client/slices.h"

#include <algorithm>

namespace latentd {

std::vector<Slice> SliceRange(const ChunkRange& range, uint64_t record_bytes, uint64_t max_bytes) {
  std::vector<Slice> slices;
  const uint64_t layer_bytes = range.tokens * record_bytes;
  const auto append = [&](uint32_t layer, uint32_t layers, uint32_t token, uint32_t tokens) {
    slices.push_back({.range = {.chunk = range.chunk,
                                .first_layer = range.first_layer + layer,
                                .layers = layers,
                                .first_token = range.first_token + token,
                                .tokens = tokens},
                      .offset_bytes = layer * layer_bytes + token * record_bytes,
                      .bytes = layers * tokens * record_bytes});
  };
  if (layer_bytes <= max_bytes) {
    const uint64_t most = layer_bytes == 0 ? range.layers : max_bytes / layer_bytes;
    for (uint32_t layer = 0; layer < range.layers;) {
      const auto layers = static_cast<uint32_t>(std::min<uint64_t>(most, range.layers - layer));
      append(layer, layers, 0, range.tokens);
      layer += layers;
    }
    return slices;
  }
  const uint64_t most = std::max<uint64_t>(max_bytes / record_bytes, 1);
  for (uint32_t layer = 0; layer < range.layers; ++layer) {
    for (uint32_t token = 0; token < range.tokens;) {
      const auto tokens = static_cast<uint32_t>(std::min<uint64_t>(most, range.tokens - token));
      append(layer, 1, token, tokens);
      token += tokens;
    }
  }
  return slices;
}

}  // namespace latentd
