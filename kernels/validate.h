// The rules of mla.h as checks, for whoever builds problems out of input that it does not trust.
//
// Pure functions: any thread. Messages name the thing that is wrong and what was expected.
#ifndef LATENTD_KERNELS_VALIDATE_H_
#define LATENTD_KERNELS_VALIDATE_H_

#include "absl/status/status.h"
#include "kernels/mla.h"

namespace latentd {

// Far beyond any published model; they keep every size below in 64 bits and every scratch buffer
// small.
inline constexpr uint32_t kMaxLatentWidth = 8192;
inline constexpr uint32_t kMaxRopeWidth = 1024;
inline constexpr uint32_t kMaxSegmentTokens = 1u << 30;

// kInvalidArgument unless: latent_width is 1..kMaxLatentWidth, and a multiple of kFp8ScaleWidth for
// fp8 records; rope_width is even (pairs are rotated) and at most kMaxRopeWidth; the format is
// known.
absl::Status ValidateGeometry(const Geometry& geometry, RecordFormat format);

// kInvalidArgument unless `problem` satisfies every rule of mla.h: heads in 1..kMaxHeads, a finite
// scale, groups that cover [0, tokens) in order, segments inside the problem's list with pages
// wherever they have visible tokens, a known output format, and buffers wherever there is something
// in them. What pointers point to is not looked at.
absl::Status ValidateProblem(const Problem& problem, const Geometry& geometry);

}  // namespace latentd

#endif  // LATENTD_KERNELS_VALIDATE_H_
