// Memory of a CUDA device for records and payloads, and pinned memory of the host that kernels reach
// in place.
//
// Works in every build: without CUDA everything is refused with "built without CUDA".
#ifndef LATENTD_KERNELS_CUDA_RECORDS_MEMORY_H_
#define LATENTD_KERNELS_CUDA_RECORDS_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "kernels/record_memory.h"

namespace latentd {

// One allocation of the device. FAILED_PRECONDITION and INVALID_ARGUMENT as CheckCudaDevice
// (devices.h) has them; RESOURCE_EXHAUSTED, saying how much there is, where the device has less
// free memory than `bytes` and what a backend needs besides.
absl::StatusOr<std::unique_ptr<RecordMemory>> MakeCudaRecordMemory(int device, uint64_t bytes);

// Memory of the host that `device` (and every other) reaches in place, aligned to 64 bytes or
// better. Null when there is none. Takes a millisecond and more: for pools.
void* AllocatePinned(int device, size_t bytes);
void FreePinned(void* memory);

// Memory of `device`, aligned to 256 bytes. Null when there is none. For pools, like the above.
void* AllocateOnDevice(int device, size_t bytes);
void FreeOnDevice(void* memory);

// Makes `device` the calling thread's: UCX's transports for its memory look there.
void UseDevice(int device);

}  // namespace latentd

#endif  // LATENTD_KERNELS_CUDA_RECORDS_MEMORY_H_
