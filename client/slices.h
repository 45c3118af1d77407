// Cutting a range of records into requests of a bounded size: by whole layers, and where one layer
// is too much, by tokens. Records of one slice lie together in the range's memory, so nothing is
// copied. Pure; any thread.
#ifndef LATENTD_CLIENT_SLICES_H_
#define LATENTD_CLIENT_SLICES_H_

#include <cstdint>
#include <vector>

#include "client/query.h"

namespace latentd {

struct Slice {
  ChunkRange range;
  uint64_t offset_bytes = 0;  // of its records in those of the whole range
  uint64_t bytes = 0;
};

// In order, without gaps or overlap. Always at least one record a slice, however small the bound.
std::vector<Slice> SliceRange(const ChunkRange& range, uint64_t record_bytes, uint64_t max_bytes);

}  // namespace latentd

#endif  // LATENTD_CLIENT_SLICES_H_
