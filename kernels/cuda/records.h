// Kernels that move, convert and check latent records.
#ifndef LATENTD_KERNELS_CUDA_RECORDS_H_
#define LATENTD_KERNELS_CUDA_RECORDS_H_

#include <cuda_runtime.h>

#include <cstddef>
#include <cstdint>

#include "kernels/mla.h"

namespace latentd {

// Consecutive bytes that a copy moves.
struct CopyRun {
  uint64_t to = 0;  // offsets
  uint64_t from = 0;
  uint32_t bytes = 0;
  uint32_t unused = 0;
};

// How the host learns of a copy's end without asking CUDA: the last CTA sets *done, pinned memory of
// the host, to `ticket`. Whoever sees it there sees what was copied. `arrivals` is memory of the
// device, 0 before the first copy, for one copy at a time.
struct CopyDone {
  uint32_t* arrivals = nullptr;
  uint32_t* done = nullptr;
  uint32_t ticket = 0;
};

// Enqueues the copy of `count` runs between memory of the device and pinned memory of the host, in
// either direction. `runs` is memory that the device can read, unchanged until the copy is done.
// REQUIRES: 0 < count, every run has at most `max_bytes`; `done` is empty or all there.
cudaError_t LaunchCopyRuns(std::byte* to, const std::byte* from, const CopyRun* runs,
                           uint32_t count, uint32_t max_bytes, const CopyDone& done,
                           cudaStream_t stream);

// As many runs travel with the launch itself; a table in the host's memory would cost another trip
// there before the first byte moves.
inline constexpr uint32_t kFewCopyRuns = 32;

// The same for offsets that are addresses and runs in ordinary memory, which may go when this
// returns. REQUIRES: 0 < count <= kFewCopyRuns.
cudaError_t LaunchFewCopyRuns(const CopyRun* runs, uint32_t count, const CopyDone& done,
                              cudaStream_t stream);

// bf16 records [count] -> fp8 records [count], the bits of kernels/quantize.h. REQUIRES: a geometry
// valid for fp8, finite records, fp8 records aligned to 4 bytes.
cudaError_t LaunchQuantizeRecords(const Geometry& geometry, const std::byte* bf16_records,
                                  uint32_t count, std::byte* fp8_records, cudaStream_t stream);

// What LaunchFindNonFinite leaves where it was when every record is finite.
inline constexpr uint32_t kAllFinite = ~0u;

// Enqueues the search for the first of `count` consecutive records that is not finite, by the rules
// of kernels/records.h; lowers *first, memory that the device can write, to its index. REQUIRES:
// count < kAllFinite, records aligned to 4 bytes.
cudaError_t LaunchFindNonFinite(const Geometry& geometry, RecordFormat format,
                                const std::byte* records, uint32_t count, uint32_t* first,
                                cudaStream_t stream);

}  // namespace latentd

#endif  // LATENTD_KERNELS_CUDA_RECORDS_H_
