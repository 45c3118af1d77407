// The rope part of rows and of records, taken to other positions: what re-adapts a chunk that was
// made at one position and is used at another (docs/re-adaptation.md).
//
// fp32 inside; results are rounded to bf16, to nearest even, and to bf16's largest value what would
// round to infinity, so that finite values stay finite. A rotation by nothing changes no bit.
// Latent values and scales are not touched: only attention's logits know of positions.
//
// Pure functions: any thread. Nothing here allocates.
#ifndef LATENTD_KERNELS_ROTATE_H_
#define LATENTD_KERNELS_ROTATE_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/mla.h"
#include "kernels/rotation.h"

namespace latentd {

// In all of these, REQUIRES: a rotation of geometry.rope_width values, or the identity; finite rope
// values.

// rows [count][row_width] -> rotated [count][row_width], which is the same memory or disjoint from it.
void RotateRows(const Geometry& geometry, const Rotation& rotation, const Bf16* rows,
                uint64_t count, Bf16* rotated);

// `count` consecutive records, in place.
void RotateRecords(const Geometry& geometry, RecordFormat format, const Rotation& rotation,
                   std::byte* records, uint64_t count);

// The first `tokens` tokens of a chunk in its first `layers` layers, in place. `page_ids` has
// ceil(tokens / kPageTokens) pages, no page twice.
void RotateChunk(const Geometry& geometry, RecordFormat format, const Rotation& rotation,
                 const PageMemory& memory, std::span<const uint32_t> page_ids, uint32_t layers,
                 uint32_t tokens);

}  // namespace latentd

#endif  // LATENTD_KERNELS_ROTATE_H_
