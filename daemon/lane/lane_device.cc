#include "daemon/lane/lane_device.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "daemon/store/host_memory.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/cuda/backend.h"
#include "kernels/cuda/devices.h"
#include "kernels/cuda/records_memory.h"

namespace latentd {
namespace {

// The host prepares one batch while the device computes another; a third would only close batches
// early.
constexpr int kCudaInFlight = 2;

LaneDevice OfCpu(const LaneOptions& options) {
  LaneDevice device;
  device.allocate_records = MakeHostMemory;
  device.payloads = HostBufferMemory();
  device.make_backend = [options](const CacheView& cache,
                                  uint32_t pages) -> absl::StatusOr<std::unique_ptr<Backend>> {
    (void)pages;
    return MakeCpuBackend({.geometry = options.layout.geometry(),
                           .format = options.layout.record_format,
                           .cache = cache,
                           .threads = std::max(options.threads, 0),
                           .cpus = options.cpus});
  };
  // Helpers need a second batch to go on with while the lane collects the first; without helpers it
  // would only close the batch early.
  device.max_in_flight = options.threads > 0 ? 2 : 1;
  return device;
}

LaneDevice OfCuda(const LaneOptions& options, int index) {
  LaneDevice device;
  device.allocate_records = [index](uint64_t bytes) { return MakeCudaRecordMemory(index, bytes); };
  device.payloads = {.allocate = [index](size_t bytes) { return AllocatePinned(index, bytes); },
                     .free = FreePinned};
  device.rows_in_payloads = true;
  device.make_backend = [options, index](const CacheView& cache, uint32_t pages) {
    return MakeCudaBackend({.device = index,
                            .geometry = options.layout.geometry(),
                            .format = options.layout.record_format,
                            .cache = cache,
                            .pages = pages,
                            .max_in_flight = kCudaInFlight,
                            .pinned_payloads = true});
  };
  device.max_in_flight = kCudaInFlight;
  return device;
}

}  // namespace

absl::StatusOr<LaneDevice> MakeLaneDevice(const LaneOptions& options) {
  absl::string_view name = options.device;
  if (name == "cpu") return OfCpu(options);
  int index = 0;
  if (!absl::ConsumePrefix(&name, "cuda:") || !absl::SimpleAtoi(name, &index)) {
    return absl::InvalidArgumentError(
        absl::StrCat("device ", options.device, " is neither cpu nor cuda:N"));
  }
  if (absl::Status s = CheckCudaDevice(ListCudaDevices(), index); !s.ok()) return s;
  return OfCuda(options, index);
}

}  // namespace latentd
