// Which instruction sets Highway compiles for: included before any Highway header by every file
// that uses it.
//
// x86-64's plain baseline (HWY_SCALAR here: correct, slow, for old machines and for tests), AVX2
// with FMA, and AVX-512. SSSE3 and SSE4 would add two compilations of every kernel for machines
// that nobody serves attention from. Sizeless vectors (SVE, RVV) cannot be kept in the arrays that
// the register blocking uses; Arm runs NEON.
//
// (No include guard trouble: this only defines a macro, and must stay that way.)
#ifndef LATENTD_KERNELS_SIMD_TARGETS_H_
#define LATENTD_KERNELS_SIMD_TARGETS_H_

#define HWY_DISABLED_TARGETS \
  (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3_DL | HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128 | HWY_RVV)

#endif  // LATENTD_KERNELS_SIMD_TARGETS_H_
