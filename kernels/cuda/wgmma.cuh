// The matrix products that the kernels use: D[64][N] (+)= A[64][16] * B[16][N], bf16 in (f16 where it
// says so), fp32 out, issued by the four warps of a warpgroup.
//
// Thread t of the group (warp w, lane l) holds of D, for j < N / 8:
//     d[4j], d[4j + 1]      row 16w + l / 4,      columns 8j + 2 (l % 4) and the next
//     d[4j + 2], d[4j + 3]  row 16w + l / 4 + 8,  the same columns
// and of an A in registers the same rows, in four registers of two values: k = 2 (l % 4) for both
// rows, then k + 8 for both rows.
//
// Operands in shared memory are 128-byte swizzled. "Transposed" is one whose rows run along k: for
// A, tokens x columns used as columns x tokens; for B, tokens x columns used as they are.
#ifndef LATENTD_KERNELS_CUDA_WGMMA_CUH_
#define LATENTD_KERNELS_CUDA_WGMMA_CUH_

#include <cstdint>

#include "kernels/cuda/ptx.cuh"

namespace latentd::ptx {

#define LATENTD_D4(i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define LATENTD_D16(i) LATENTD_D4(i), LATENTD_D4(i + 4), LATENTD_D4(i + 8), LATENTD_D4(i + 12)
#define LATENTD_D64(i) LATENTD_D16(i), LATENTD_D16(i + 16), LATENTD_D16(i + 32), LATENTD_D16(i + 48)

// --- Both operands in shared memory; N = 8, 16, 24, 32, 64 by the size of `d` ---

template <int kTransposedA>
__device__ __forceinline__ void Wgmma(float (&d)[4], uint64_t a, uint64_t b, bool accumulate) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %6, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 "
      "{%0,%1,%2,%3}, "
      "%4, %5, p, 1, 1, %7, 0;\n}"
      : LATENTD_D4(0)
      : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(kTransposedA));
}

template <int kTransposedA>
__device__ __forceinline__ void Wgmma(float (&d)[8], uint64_t a, uint64_t b, bool accumulate) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %10, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7}, "
      "%8, %9, p, 1, 1, %11, 0;\n}"
      : LATENTD_D4(0), LATENTD_D4(4)
      : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(kTransposedA));
}

// f16 in.
template <int kTransposedA>
__device__ __forceinline__ void WgmmaF16(float (&d)[8], uint64_t a, uint64_t b, bool accumulate) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %10, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n16k16.f32.f16.f16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7}, "
      "%8, %9, p, 1, 1, %11, 0;\n}"
      : LATENTD_D4(0), LATENTD_D4(4)
      : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(kTransposedA));
}

template <int kTransposedA>
__device__ __forceinline__ void Wgmma(float (&d)[12], uint64_t a, uint64_t b, bool accumulate) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %14, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n24k16.f32.bf16.bf16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11}, "
      "%12, %13, p, 1, 1, %15, 0;\n}"
      : LATENTD_D4(0), LATENTD_D4(4), LATENTD_D4(8)
      : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(kTransposedA));
}

template <int kTransposedA>
__device__ __forceinline__ void Wgmma(float (&d)[16], uint64_t a, uint64_t b, bool accumulate) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %18, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15}, "
      "%16, %17, p, 1, 1, %19, 0;\n}"
      : LATENTD_D16(0)
      : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(kTransposedA));
}

template <int kTransposedA>
__device__ __forceinline__ void Wgmma(float (&d)[32], uint64_t a, uint64_t b, bool accumulate) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
      "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, "
      "%32, %33, p, 1, 1, %35, 0;\n}"
      : LATENTD_D16(0), LATENTD_D16(16)
      : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(kTransposedA));
}

// --- N = 256 with a transposed B: D[64 rows][256 columns] += A[64][16 tokens] * B ---

__device__ __forceinline__ void WgmmaN256(float (&d)[128], uint64_t a, uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
      "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
      "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"
      "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63,"
      "%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,"
      "%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95,"
      "%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,"
      "%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127}, "
      "%128, %129, 1, 1, 1, 0, 1;"
      : LATENTD_D64(0), LATENTD_D64(64)
      : "l"(a), "l"(b));
}

// A from registers.
__device__ __forceinline__ void WgmmaN256(float (&d)[128], const uint32_t* a, uint64_t b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 "
      "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
      "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
      "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"
      "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63,"
      "%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,"
      "%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95,"
      "%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,"
      "%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127}, "
      "{%128,%129,%130,%131}, %132, 1, 1, 1, 1;"
      : LATENTD_D64(0), LATENTD_D64(64)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

#undef LATENTD_D4
#undef LATENTD_D16
#undef LATENTD_D64

}  // namespace latentd::ptx

#endif  // LATENTD_KERNELS_CUDA_WGMMA_CUH_
