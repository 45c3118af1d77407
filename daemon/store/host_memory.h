// Memory of the host for records.
//
// It is only reserved at first: a page costs memory when it is first written, so that a daemon with
// a large cache starts at once.
#ifndef LATENTD_DAEMON_STORE_HOST_MEMORY_H_
#define LATENTD_DAEMON_STORE_HOST_MEMORY_H_

#include <cstdint>
#include <memory>

#include "absl/status/statusor.h"
#include "kernels/record_memory.h"

namespace latentd {

// RESOURCE_EXHAUSTED when the address space cannot be had. REQUIRES: bytes > 0.
absl::StatusOr<std::unique_ptr<RecordMemory>> MakeHostMemory(uint64_t bytes);

}  // namespace latentd

#endif  // LATENTD_DAEMON_STORE_HOST_MEMORY_H_
