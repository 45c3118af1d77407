#include "kernels/testing/test_store.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <cstring>
#include <numeric>

#include "kernels/bf16.h"
#include "kernels/fp8.h"
#include "kernels/records.h"

namespace latentd {

TestStore::TestStore(const Geometry& geometry, RecordFormat format, uint32_t layers, uint32_t pages,
                     uint64_t seed)
    : geometry_(geometry), format_(format), layers_(layers), random_(seed), free_(pages) {
  arena_.assign(pages * view().page_bytes, std::byte{0xff});
  std::iota(free_.begin(), free_.end(), 0u);
  std::shuffle(free_.begin(), free_.end(), random_);
}

uint32_t TestStore::AddChunk(uint32_t tokens, float spread) {
  Chunk& chunk = chunks_.emplace_back();
  chunk.tokens = tokens;
  for (uint32_t first = 0; first < tokens; first += kPageTokens) {
    assert(!free_.empty());
    chunk.page_ids.push_back(free_.back());
    free_.pop_back();
  }
  const uint32_t index = chunks() - 1;
  for (uint32_t layer = 0; layer < layers_; ++layer) {
    for (uint32_t t = 0; t < tokens; ++t) WriteRecord(record(index, layer, t), spread);
  }
  return index;
}

CacheView TestStore::view() const {
  const uint64_t layer_bytes = kPageTokens * RecordBytes(geometry_, format_);
  return {arena_.data(), layers_ * layer_bytes, layer_bytes};
}

std::byte* TestStore::record(uint32_t chunk, uint32_t layer, uint32_t token) {
  const std::byte* at = RecordAddress(geometry_, format_, view(), page_ids(chunk), layer, token);
  return arena_.data() + (at - arena_.data());
}

void TestStore::WriteRecord(std::byte* record, float spread) {
  std::normal_distribution<float> normal(0.0f, spread);
  std::byte* bf16_part = record;
  uint32_t bf16_values = geometry_.row_width();
  if (format_ == RecordFormat::kFp8) {
    for (uint32_t i = 0; i < geometry_.latent_width; ++i) {
      record[i] = static_cast<std::byte>(FloatToFp8(normal(random_) * 100.0f));
    }
    for (uint32_t block = 0; block < geometry_.latent_width / kFp8ScaleWidth; ++block) {
      // Not powers of two: other writers' scales need not be.
      const float scale = std::uniform_real_distribution<float>(0.005f, 0.02f)(random_);
      std::memcpy(record + Fp8ScalesOffset(geometry_) + block * sizeof(float), &scale,
                  sizeof(scale));
    }
    bf16_part = record + Fp8RopeOffset(geometry_);
    bf16_values = geometry_.rope_width;
  }
  for (uint32_t i = 0; i < bf16_values; ++i) {
    const Bf16 value = FloatToBf16(normal(random_));
    std::memcpy(bf16_part + i * sizeof(Bf16), &value, sizeof(value));
  }
}

}  // namespace latentd
