// A layout's rope parameters as the arithmetic of kernels/rope.h takes them.
//
// Pure; any thread.
#ifndef LATENTD_ROUTING_LAYOUT_ROPE_H_
#define LATENTD_ROUTING_LAYOUT_ROPE_H_

#include "kernels/rope.h"
#include "routing/layout.h"

namespace latentd {

// mscale stays behind: it is in the values, and in the softmax scale, and has no part in a rotation.
inline RopeSpec RopeOf(const Layout& layout) {
  return {.width = layout.rope_width,
          .pairs = layout.rope.interleaved ? RopePairs::kInterleaved : RopePairs::kHalves,
          .theta = layout.rope.theta,
          .yarn_factor = layout.rope.yarn_factor,
          .original_context = layout.rope.original_context,
          .yarn_beta_fast = layout.rope.yarn_beta_fast,
          .yarn_beta_slow = layout.rope.yarn_beta_slow};
}

}  // namespace latentd

#endif  // LATENTD_ROUTING_LAYOUT_ROPE_H_
