// Merging partials of the same rows over disjoint sets of records:
//     lse = log(sum_i exp(lse_i))
//     out = sum_i exp(lse_i - lse) * out_i
// accumulated in fp32, relative to the largest lse so that nothing overflows.
//
// Pure function: any thread. Allocates only beyond 32 nonempty inputs of a row.
#ifndef LATENTD_KERNELS_MERGE_H_
#define LATENTD_KERNELS_MERGE_H_

#include <cstdint>
#include <span>

#include "kernels/mla.h"

namespace latentd {

// One holder's partials of a run of rows.
struct PartialView {
  const void* out = nullptr;   // [rows][latent_width] of out_format
  const float* lse = nullptr;  // [rows]; -inf: empty, and the row's out is not looked at
  OutFormat out_format = OutFormat::kBf16;
};

// Merges `inputs` row by row into out [rows][latent_width] of `out_format` and lse [rows].
//
//  * No nonempty input: out = 0, lse = -inf. So also for no inputs at all.
//  * One nonempty input: its lse bit for bit, and its out bit for bit when the formats agree.
//  * More: associative and commutative within rounding.
//
// REQUIRES: no NaN or +inf in any lse, finite out in nonempty rows. `out` and `lse` may be those of
// one input of the same format (merging in place); otherwise they overlap nothing.
void MergePartials(std::span<const PartialView> inputs, uint64_t rows, uint32_t latent_width,
                   OutFormat out_format, void* out, float* lse);

}  // namespace latentd

#endif  // LATENTD_KERNELS_MERGE_H_
