// Integrity at rest: while the lane has nothing else to do, and now and then if it always has, it
// reads its sealed chunks again, a little at a time.
#include <algorithm>
#include <utility>

#include "daemon/lane/lane_impl.h"
#include "daemon/lane/steady_time.h"
#include "daemon/process/log.h"

namespace latentd {
namespace {

// Some tens of microseconds: what a request that comes meanwhile waits.
constexpr uint64_t kStepBytes = uint64_t{256} << 10;
constexpr absl::Duration kShortestPause = absl::Milliseconds(1);
// Where there was nothing to read.
constexpr absl::Duration kLookAgainAfter = absl::Seconds(1);

}  // namespace

void LaneImpl::ScrubSoon(const IdEntries& ids, absl::Time now) {
  for (const wire::IdEntry& entry : ids) {
    const ChunkId id{.hi = entry.chunk_hi, .lo = entry.chunk_lo};
    if (!store_->ScrubSoon(id)) continue;
    next_scrub_ = std::min(next_scrub_, now);
    scrub_pass_ = std::min(scrub_pass_, now);
    if (log_gate_.Open(now)) {
      LogWarn("another node had other bytes of a chunk than it was sealed with: it is read again",
              {{"lane", options_.index}, {"chunk", ToString(id)}});
    }
  }
}

void LaneImpl::Scrub(absl::Time now) {
  if (options_.scrub_bytes_per_s == 0 || now < next_scrub_) return;
  if (!device_status_.ok() || stopping_) {
    next_scrub_ = absl::InfiniteFuture();
    return;
  }
  if (scrub_pass_ == absl::InfinitePast()) scrub_pass_ = now;
  const auto step = store_->Scrub(kStepBytes, now);
  if (!step.ok()) {
    (void)Judge(step.status());
    return;
  }
  next_scrub_ =
      now + std::max(kShortestPause,
                     absl::Seconds(1) * (static_cast<double>(step->bytes) /
                                         static_cast<double>(options_.scrub_bytes_per_s)));
  scrub_pass_bytes_ += step->bytes;
  if (step->end_of_pass) {
    // Chunks that come after an empty pass do not wait for the time of the next.
    const bool was_empty = std::exchange(scrub_pass_bytes_, 0) == 0;
    const absl::Duration every = was_empty ? std::min(kLookAgainAfter, options_.scrub_pass_every)
                                           : options_.scrub_pass_every;
    next_scrub_ = std::max(next_scrub_, scrub_pass_ + every);
    scrub_pass_ = next_scrub_;
  }
  if (step->corrupt.has_value()) {
    const ChunkInfo& chunk = *step->corrupt;
    LogError("a chunk no longer has the bytes that it was sealed with: quarantined",
             {{"lane", options_.index}, {"chunk", ToString(chunk.id)}, {"tokens", chunk.tokens}});
    if (options_.replica_sink != nullptr) {
      options_.replica_sink->OnQuarantined(options_.index, chunk.id, chunk.tokens, chunk.checksum);
    }
  }
  UpdateGauges();
}

}  // namespace latentd
