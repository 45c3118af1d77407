// Attention on a CUDA device of compute capability 9.0. See README.md for the arithmetic.
#ifndef LATENTD_KERNELS_CUDA_BACKEND_H_
#define LATENTD_KERNELS_CUDA_BACKEND_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "absl/status/statusor.h"
#include "kernels/backend.h"
#include "kernels/mla.h"

namespace latentd {

struct CudaBackendOptions {
  int device = 0;
  Geometry geometry;
  RecordFormat format = RecordFormat::kBf16;
  CacheView cache;     // memory of `device`; outlives the backend
  uint32_t pages = 0;  // of the cache
  int max_in_flight = 4;
  // Segment::page_ids are pointers of the device, to tables that stay unchanged while a batch is in
  // flight. Else of the host, and copied with each batch.
  bool device_page_tables = false;
  // Rows, out and lse of every problem are pinned memory of the host, or of the device if they lie in
  // `device_payloads`. Else CUDA is asked about each of them, which takes a good part of a
  // microsecond.
  bool pinned_payloads = false;
  std::span<const std::byte> device_payloads;
};

// A backend whose batches run on streams of their own, one for each batch in flight.
//
// Rows, out and lse of a problem may be memory of the device, which kernels use in place if it is
// aligned to 16 bytes, pinned memory of the host, which the device copies in and out, or ordinary
// memory, which the host copies besides. Results do not depend on timing: the same batch
// gives the same bits. How a problem is cut depends on what it is batched with, so that its bits
// may differ between batches, within the rounding that merge.h has too.
//
// kFailedPrecondition in a build without CUDA; kFailedPrecondition and kInvalidArgument as
// CheckCudaDevice (devices.h) has them; kInternal for CUDA's own errors. After an error of the device every batch's statuses are kInternal, with CUDA's words.
//
// REQUIRES: ValidateGeometry(options.geometry, options.format).ok(), max_in_flight >= 1.
absl::StatusOr<std::unique_ptr<Backend>> MakeCudaBackend(const CudaBackendOptions& options);

}  // namespace latentd

#endif  // LATENTD_KERNELS_CUDA_BACKEND_H_
