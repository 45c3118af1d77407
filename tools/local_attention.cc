#include "tools/local_attention.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <random>

#include "client/clock.h"
#include "kernels/cpu/cpu_backend.h"
#include "kernels/merge.h"
#include "kernels/rope.h"
#include "kernels/rotate.h"
#include "routing/layout_rope.h"
#include "tools/attend_probe.h"
#include "tools/bench_data.h"

namespace latentd {
namespace {

constexpr uint32_t kMergeRows = 128;
constexpr uint64_t kSpliceRecords = 4096;

}  // namespace

LocalAttention::LocalAttention(const Layout& layout, uint32_t most_rows, uint32_t most_tokens,
                               int threads)
    : layout_(layout) {
  std::mt19937_64 random(1);
  const uint32_t pages = (most_tokens + kPageTokens - 1) / kPageTokens;
  pages_ = RandomRecords(random, layout, uint64_t{pages} * kPageTokens);
  for (uint32_t page = 0; page < pages; ++page) page_ids_.push_back(page);
  const Geometry geometry = layout.geometry();
  const uint32_t rows = std::max(most_rows, kMergeRows);
  rows_ = RandomBf16(random, uint64_t{rows} * geometry.row_width());
  for (int i = 0; i < 3; ++i) {
    out_[i].resize(uint64_t{rows} * geometry.latent_width * sizeof(Bf16));
    lse_[i].assign(rows, 0);
  }
  const uint64_t page_bytes = kPageTokens * layout.record_bytes();
  backend_ = MakeCpuBackend(
      {.geometry = geometry,
       .format = layout.record_format,
       .cache = {.arena = pages_.data(), .page_bytes = page_bytes, .layer_bytes = page_bytes},
       .threads = threads});
}

double LocalAttention::TimeAttendUs(uint32_t rows, uint32_t tokens) {
  assert(rows <= lse_[0].size() && tokens <= most_tokens());
  const Segment segment = {.page_ids = page_ids_.data(), .visible_tokens = tokens};
  const uint32_t heads = HeadsOf(rows);
  const Group group = {.tokens = rows / heads, .segments = 1};
  const Problem problem = {.tokens = rows / heads,
                           .heads = heads,
                           .scale = kProbeScale,
                           .groups = {&group, 1},
                           .segments = {&segment, 1},
                           .rows = rows_.data(),
                           .out = out_[0].data(),
                           .lse = lse_[0].data()};
  std::vector<BatchResult> done;
  const uint64_t start_ns = SteadyNanos();
  backend_->Submit(next_batch_++, {&problem, 1});
  while (done.empty()) backend_->Poll(done);
  return MicrosecondsSince(start_ns);
}

double LocalAttention::TimeMergeUs(uint32_t rows) {
  const PartialView partials[] = {{out_[0].data(), lse_[0].data()},
                                  {out_[1].data(), lse_[1].data()}};
  const uint64_t start_ns = SteadyNanos();
  MergePartials(partials, rows, layout_.latent_width, OutFormat::kBf16, out_[2].data(),
                lse_[2].data());
  return MicrosecondsSince(start_ns) / (2.0 * rows);
}

double LocalAttention::TimeSpliceRecordsPerUs() {
  const auto rope = Rope::Make(RopeOf(layout_));
  const uint64_t records = std::min<uint64_t>(kSpliceRecords, page_ids_.size() * kPageTokens);
  const auto rotation = rope.ok() ? rope->RotationBy(100) : rope.status();
  if (!rotation.ok()) return std::numeric_limits<double>::quiet_NaN();
  const uint64_t start_ns = SteadyNanos();
  RotateRecords(layout_.geometry(), layout_.record_format, *rotation, pages_.data(), records);
  return static_cast<double>(records) / MicrosecondsSince(start_ns);
}

}  // namespace latentd
