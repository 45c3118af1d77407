#include "daemon/process/lanes.h"

#include <sched.h>

#include <algorithm>
#include <iterator>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "daemon/process/log.h"
#include "daemon/process/memory_check.h"
#include "daemon/process/near_cpus.h"
#include "kernels/cuda/devices.h"
#include "kernels/cuda/records_memory.h"
#include "transport/worker.h"

namespace latentd {
namespace {

IdlePolicy ToPolicy(LaneIdle idle) {
  switch (idle) {
    case LaneIdle::kPoll:
      return IdlePolicy::kPoll;
    case LaneIdle::kSleep:
      return IdlePolicy::kSleep;
    case LaneIdle::kAdaptive:
      break;
  }
  return IdlePolicy::kAdaptive;
}

// A GPU does a thousand times the work of a core; data.limits.work_per_request is a cpu lane's.
constexpr uint64_t kCudaWorkFactor = 64;

LaneLimits ToLimits(const LimitsConfig& config, const LaneConfig& lane) {
  LaneLimits limits;
  limits.open_bytes_per_session =
      config.open_bytes_per_session == 0 ? lane.cache_bytes / 2 : config.open_bytes_per_session;
  limits.inflight_per_session = config.inflight_per_session;
  limits.inflight_bytes_per_session = config.inflight_bytes_per_session;
  limits.inflight = config.inflight_per_lane;
  limits.inflight_bytes = config.inflight_bytes_per_lane;
  limits.chunks_per_request = config.chunks_per_request;
  limits.rows_per_request = config.rows_per_request;
  limits.work_per_request =
      config.work_per_request * (lane.device.kind == DeviceKind::kCuda ? kCudaWorkFactor : 1);
  limits.sessions = config.sessions;
  limits.chunks = config.chunks;
  return limits;
}

std::set<int> AllowedCpus() {
  std::set<int> cpus;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) != 0) return cpus;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(cpu, &set)) cpus.insert(cpu);
  }
  return cpus;
}

}  // namespace

absl::Status CheckCpus(const Config& config, const std::set<int>& allowed) {
  if (allowed.empty()) return absl::OkStatus();  // a machine too large for cpu_set_t
  for (size_t i = 0; i < config.data.lanes.size(); ++i) {
    for (const uint32_t cpu : config.data.lanes[i].cpus) {
      if (allowed.contains(static_cast<int>(cpu))) continue;
      return absl::InvalidArgumentError(
          absl::StrCat("data.lanes[", i, "].cpus: this process may not run on CPU ", cpu,
                       ", only on ", absl::StrJoin(allowed, ",")));
    }
  }
  return absl::OkStatus();
}

std::vector<LaneOptions> MakeLaneOptions(const Config& config, Generation generation,
                                         const LaneSeams& seams) {
  std::vector<uint64_t> caches;
  for (const LaneConfig& lane : config.data.lanes) caches.push_back(lane.cache_bytes);

  std::vector<LaneOptions> all;
  for (const LaneConfig& lane : config.data.lanes) {
    LaneOptions options;
    options.index = static_cast<uint32_t>(all.size());
    options.node_id = config.node.id;
    options.generation = generation;
    options.layout = LayoutOf(config);
    options.device = ToString(lane.device);
    options.cache_bytes = lane.cache_bytes;
    options.threads = static_cast<int>(lane.threads);
    options.cpus.assign(lane.cpus.begin(), lane.cpus.end());
    options.all_lane_cache_bytes = caches;
    options.high_watermark = config.store.high_watermark;
    options.low_watermark = config.store.low_watermark;
    options.default_lease = absl::Milliseconds(config.store.lease_default_ms);
    options.max_lease = std::max(options.max_lease, options.default_lease);
    options.idle = ToPolicy(config.data.lane.idle);
    options.spin = absl::Microseconds(config.data.lane.spin_us);
    options.ping_after = absl::Milliseconds(config.data.liveness.ping_ms);
    options.dead_after = absl::Milliseconds(config.data.liveness.dead_ms);
    options.limits = ToLimits(config.data.limits, lane);
    options.replica_sink = seams.replica_sink;
    options.acks_all = config.acks == Acks::kAll;
    options.fence = seams.fence;
    options.scrub_bytes_per_s = config.scrub.rate_bytes_per_s;
    options.scrub_pass_every = absl::Milliseconds(config.scrub.every_ms);
    all.push_back(std::move(options));
  }
  return all;
}

namespace {

// A lane of a GPU that is bound to nothing runs on the CPUs of the GPU's NUMA node: a word written
// there by the device, or read by it, crosses no link between sockets.
void StayNear(const CudaDevices& devices, const std::set<int>& allowed, LaneOptions& lane) {
  const std::optional<int> index = ParseCudaDevice(lane.device);
  if (!index.has_value() || !lane.cpus.empty()) return;
  for (const CudaDevice& device : devices.devices) {
    if (device.index != *index) continue;
    const absl::StatusOr<std::set<int>> near = CpusNear(device.pci_bus_id);
    if (!near.ok()) {
      LogInfo("a lane runs anywhere: the CPUs near its GPU are not known",
              {{"lane", lane.index}, {"error", near.status().message()}});
      return;
    }
    std::set_intersection(near->begin(), near->end(), allowed.begin(), allowed.end(),
                          std::back_inserter(lane.cpus));
    LogInfo(
        "a lane runs on the CPUs near its GPU",
        {{"lane", lane.index}, {"device", lane.device}, {"cpus", absl::StrJoin(lane.cpus, ",")}});
  }
}

// UCX looks for the device of the thread that makes its context.
bool EnterCuda(const Config& config) {
  for (const LaneConfig& lane : config.data.lanes) {
    if (lane.device.kind != DeviceKind::kCuda) continue;
    UseDevice(lane.device.index);
    return true;
  }
  return false;
}

}  // namespace

absl::StatusOr<std::vector<std::unique_ptr<Lane>>> MakeLanes(const Config& config,
                                                             Generation generation,
                                                             const LaneSeams& seams) {
  const std::set<int> allowed = AllowedCpus();
  if (absl::Status cpus = CheckCpus(config, allowed); !cpus.ok()) return cpus;
  if (absl::Status memory = CheckHostMemory(config, ReadMemoryBounds()); !memory.ok()) {
    return memory;
  }
  absl::StatusOr<std::shared_ptr<Context>> context =
      Context::Create({.transports = config.data.transports, .cuda = EnterCuda(config)});
  if (!context.ok()) {
    return absl::Status(context.status().code(),
                        absl::StrCat("data.transports: ", context.status().message()));
  }
  LogInfo("data plane", {{"transports", config.data.transports.empty()
                                            ? std::string("auto")
                                            : absl::StrJoin(config.data.transports, ",")}});

  const CudaDevices devices = ListCudaDevices();
  std::vector<std::unique_ptr<Lane>> lanes;
  for (LaneOptions& options : MakeLaneOptions(config, generation, seams)) {
    StayNear(devices, allowed, options);
    const std::string name = absl::StrCat("data.lanes[", options.index, "] (", options.device,
                                          ", cache ", options.cache_bytes, " bytes): ");
    absl::StatusOr<std::unique_ptr<Lane>> lane = Lane::Create(std::move(options), *context);
    if (!lane.ok()) {
      return absl::Status(lane.status().code(), absl::StrCat(name, lane.status().message()));
    }
    lanes.push_back(*std::move(lane));
  }
  return lanes;
}

}  // namespace latentd
