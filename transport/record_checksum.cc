#include "transport/record_checksum.h"

#include "xxhash.h"

namespace latentd {

uint64_t RecordChecksum(std::span<const std::byte> record, uint32_t layer, uint32_t token) {
  return XXH3_64bits_withSeed(record.data(), record.size(), uint64_t{layer} << 32 | token);
}

uint64_t RangeChecksum(std::span<const std::byte> records, uint64_t record_bytes,
                       uint32_t first_layer, uint32_t layers, uint32_t first_token,
                       uint32_t tokens) {
  uint64_t sum = 0;
  const std::byte* record = records.data();
  for (uint32_t l = 0; l < layers; ++l) {
    for (uint32_t t = 0; t < tokens; ++t, record += record_bytes) {
      sum += RecordChecksum({record, record_bytes}, first_layer + l, first_token + t);
    }
  }
  return sum;
}

uint64_t PayloadChecksum(std::span<const std::byte> payload) {
  return XXH3_64bits(payload.data(), payload.size());
}

}  // namespace latentd
