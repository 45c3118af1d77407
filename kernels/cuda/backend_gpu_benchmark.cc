// Times a batch as a lane sees it, from Submit to the Poll that returns it, with rows and answers in
// the device's memory; and the host's part of it: the plan, and Submit. Medians.
//
//     backend_gpu_benchmark
#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <memory>
#include <random>
#include <vector>

#include "kernels/bf16.h"
#include "kernels/cuda/backend.h"
#include "kernels/cuda/graph_timer.h"
#include "kernels/cuda/launch.h"
#include "kernels/cuda/make_arena.h"
#include "kernels/cuda/memory.h"
#include "kernels/cuda/plan.h"

namespace latentd {
namespace {

using Clock = std::chrono::steady_clock;

constexpr Geometry kGeometry;
constexpr uint32_t kTokens = 2048;
constexpr uint32_t kPages = kTokens / kPageTokens;
constexpr int kRounds = 500;
constexpr int kWarmUp = 50;

double Microseconds(Clock::time_point since) {
  return std::chrono::duration<double, std::micro>(Clock::now() - since).count();
}

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

// Random bf16 values in the device's memory.
DeviceMemory RandomValues(uint64_t count) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  std::vector<Bf16> values(count);
  for (Bf16& value : values) value = FloatToBf16(normal(random));
  DeviceMemory memory;
  Check(memory.Grow(count * sizeof(Bf16)));
  Check(cudaMemcpy(memory.data(), values.data(), count * sizeof(Bf16), cudaMemcpyHostToDevice),
        "copy of values");
  return memory;
}

struct Shape {
  uint32_t requesters;
  uint32_t tokens;  // of each
  uint32_t heads;
};

class Requests {
 public:
  explicit Requests(const Shape& shape)
      : rows_(RandomValues(uint64_t{shape.requesters} * shape.tokens * shape.heads *
                           kGeometry.row_width())) {
    for (uint32_t i = 0; i < kPages; ++i) page_ids_.push_back((i * 7) % kPages);
    segment_ = {.page_ids = page_ids_.data(), .visible_tokens = kTokens};
    group_ = {.tokens = shape.tokens, .segments = 1, .causal = shape.tokens > 1};
    const uint64_t rows = uint64_t{shape.tokens} * shape.heads;
    Check(out_.Grow(shape.requesters * rows * kGeometry.latent_width * sizeof(Bf16)));
    Check(lse_.Grow(shape.requesters * rows * sizeof(float)));
    for (uint32_t r = 0; r < shape.requesters; ++r) {
      problems_.push_back(
          {.tokens = shape.tokens,
           .heads = shape.heads,
           .scale = 0.1352337788608801f,
           .groups = {&group_, 1},
           .segments = {&segment_, 1},
           .rows = reinterpret_cast<const Bf16*>(rows_.data()) + r * rows * kGeometry.row_width(),
           .out = out_.data() + r * rows * kGeometry.latent_width * sizeof(Bf16),
           .lse = reinterpret_cast<float*>(lse_.data()) + r * rows});
    }
  }
  const std::vector<Problem>& problems() const { return problems_; }

 private:
  DeviceMemory rows_;
  DeviceMemory out_;
  DeviceMemory lse_;
  std::vector<uint32_t> page_ids_;
  Segment segment_;
  Group group_;
  std::vector<Problem> problems_;
};

void Measure(const Shape& shape, Backend& backend, const PlanDevice& device) {
  const Requests requests(shape);
  std::vector<double> plan_us, submit_us, total_us, own_us;
  BatchPlan plan;
  std::vector<BatchResult> done;
  for (int round = 0; round < kWarmUp + kRounds; ++round) {
    const Clock::time_point plan_start = Clock::now();
    plan.Build(kGeometry, requests.problems(), device);
    const double planned = Microseconds(plan_start);
    const Clock::time_point start = Clock::now();
    backend.Submit(1, requests.problems());
    const double submitted = Microseconds(start);
    done.clear();
    while (done.empty()) backend.Poll(done);
    const double total = Microseconds(start);
    for (const absl::Status& status : done[0].statuses) Check(status);
    if (round < kWarmUp) continue;
    plan_us.push_back(planned);
    submit_us.push_back(submitted);
    total_us.push_back(total);
    own_us.push_back(static_cast<double>(done[0].compute_ns) * 1e-3);
  }
  std::printf("%4u x %2u x %3u heads %8.1f %8.1f %8.1f  form %d, %zu items, %zu merges\n",
              shape.requesters, shape.tokens, shape.heads, Median(plan_us), Median(submit_us),
              Median(total_us), static_cast<int>(plan.form()), plan.items().size(),
              plan.merges().size());
}

void Run() {
  const DeviceMemory cache = RandomValues(uint64_t{kTokens} * kGeometry.row_width());
  const uint64_t page_bytes = kPageTokens * RecordBytes(kGeometry, RecordFormat::kBf16);
  const CacheView view = {cache.data(), page_bytes, page_bytes};
  const auto arena = MakeArena(kGeometry, RecordFormat::kBf16, view, kPages);
  Check(arena.status());
  const auto device = PreparePlanDevice(*arena);
  Check(device.status());
  const auto backend =
      MakeCudaBackend({.geometry = kGeometry,
                       .cache = view,
                       .pages = kPages,
                       .max_in_flight = 2,
                       .pinned_payloads = true,
                       .device_payloads = {static_cast<std::byte*>(nullptr), ~size_t{0}}});
  Check(backend.status());
  std::printf("requesters x tokens      plan   submit    total  us, %u cached tokens\n", kTokens);
  for (const Shape& shape : {Shape{1, 1, 16}, Shape{1, 1, 128}, Shape{1, 2, 128}, Shape{1, 8, 128},
                             Shape{8, 1, 128}, Shape{64, 1, 16}}) {
    Measure(shape, **backend, *device);
  }
}

}  // namespace
}  // namespace latentd

int main() {
  latentd::Run();
  return 0;
}
