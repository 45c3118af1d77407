// The memory that a store keeps its records in: of the host, or of a device. Who has it knows what
// lies where; this only moves bytes.
#ifndef LATENTD_KERNELS_RECORD_MEMORY_H_
#define LATENTD_KERNELS_RECORD_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace latentd {

// Consecutive bytes in both places.
struct RecordRun {
  uint64_t memory_offset = 0;  // from base()
  uint64_t host_offset = 0;    // from the start of the host's buffer
  uint64_t bytes = 0;
};

// `RecordMemory` owns one range of memory, at one address for its life, whose contents are at first
// whatever they are. One thread, that of the store's lane. Each call has read or written everything
// when it returns, also for batches that a backend starts from then on. Runs of one call do not
// overlap.
//
// Errors are those of a device, INTERNAL and for good: what the memory held is lost. Memory of the
// host has none.
class RecordMemory {
 public:
  virtual ~RecordMemory() = default;

  // An address of the device where on_host() is false.
  virtual std::byte* base() const = 0;
  virtual uint64_t bytes() const = 0;
  virtual bool on_host() const = 0;

  virtual absl::Status Write(std::span<const RecordRun> runs, const std::byte* from) = 0;
  virtual absl::Status Read(std::span<const RecordRun> runs, std::byte* to) = 0;
  // Where in the host's buffer the first byte is, in the order of runs, that memory has otherwise;
  // none if all are equal.
  virtual absl::StatusOr<std::optional<uint64_t>> FirstDifference(std::span<const RecordRun> runs,
                                                                  const std::byte* from) = 0;
};

// RESOURCE_EXHAUSTED, naming what there is, when so many bytes cannot be had.
using AllocateRecordMemory =
    std::function<absl::StatusOr<std::unique_ptr<RecordMemory>>(uint64_t bytes)>;

}  // namespace latentd

#endif  // LATENTD_KERNELS_RECORD_MEMORY_H_
