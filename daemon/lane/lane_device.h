// What a lane takes from the device that it runs on.
#ifndef LATENTD_DAEMON_LANE_LANE_DEVICE_H_
#define LATENTD_DAEMON_LANE_LANE_DEVICE_H_

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "daemon/lane/lane_options.h"
#include "kernels/backend.h"
#include "kernels/mla.h"
#include "kernels/record_memory.h"
#include "transport/payload_pool.h"

namespace latentd {

struct LaneDevice {
  AllocateRecordMemory allocate_records;
  // Memory that the device reaches in place: rows and answers lie in it while it computes.
  PayloadMemory payloads;
  // Rows that came elsewhere, in a transport's own memory, are copied into `payloads` first.
  bool rows_in_payloads = false;
  // Memory of the device's own, for requesters whose rows and answers lie on a device; none on a
  // device that is the host. Bounded: `payloads` serve whatever it has no room for.
  std::optional<PayloadMemory> device_payloads;
  // What both are cut from, once there is a backend; empty ones among them are none.
  std::function<std::vector<std::span<std::byte>>()> slabs = [] {
    return std::vector<std::span<std::byte>>();
  };
  // Called first by the thread that the lane is to be.
  std::function<void()> enter_thread = [] {};
  // Over `pages` pages at `cache`, which lies in what allocate_records gave.
  std::function<absl::StatusOr<std::unique_ptr<Backend>>(const CacheView& cache, uint32_t pages)>
      make_backend;
  // Batches given to the backend at once.
  int max_in_flight = 1;
};

// For options.device, "cpu" or "cuda:N". Takes nothing of it yet. FAILED_PRECONDITION and
// INVALID_ARGUMENT as CheckCudaDevice (kernels/cuda/devices.h) has them.
absl::StatusOr<LaneDevice> MakeLaneDevice(const LaneOptions& options);

}  // namespace latentd

#endif  // LATENTD_DAEMON_LANE_LANE_DEVICE_H_
