// `TrialScratch` has what a lane's trials read and write: pages of its store that no chunk has and
// no request can name, rows, and room for answers. It takes pages that are free: at most half of
// what is left below the store's high watermark, and so few that the largest write still fits
// without making chunks go.
//
// Lane thread only. What it gave to a batch is valid until the next Reserve, or its end.
#ifndef LATENTD_DAEMON_LANE_TRIAL_SCRATCH_H_
#define LATENTD_DAEMON_LANE_TRIAL_SCRATCH_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "daemon/lane/batch_trial.h"
#include "daemon/store/latent_store.h"
#include "kernels/mla.h"
#include "transport/payload_pool.h"

namespace latentd {

class TrialScratch {
 public:
  // Both outlive it. `high_watermark` is the store's; `write_bytes` are what one write may bring.
  TrialScratch(LatentStore* store, PayloadPool* buffers, double high_watermark,
               uint64_t write_bytes);
  // Gives everything back. REQUIRES: no batch reads it.
  ~TrialScratch();
  TrialScratch(const TrialScratch&) = delete;
  TrialScratch& operator=(const TrialScratch&) = delete;

  // Makes room for a trial with `batches` in flight. RESOURCE_EXHAUSTED: names the pages, or the
  // bytes, that are not to be had; INVALID_ARGUMENT: it attends nothing.
  absl::Status Reserve(const BatchTrial& trial, uint32_t batches);
  // Writes some of the rows and records that are not written yet; true once all are. INTERNAL: the
  // device.
  absl::StatusOr<bool> Fill();
  // The trial's batch, as the i-th of those in flight. REQUIRES: Reserve, and Fill said true.
  Problem ProblemOf(const BatchTrial& trial, size_t i);

  size_t pages() const { return pages_.size(); }

 private:
  uint64_t PagesToSpare() const;
  absl::Status ReserveBuffers(const BatchTrial& trial, uint32_t batches);

  LatentStore* const store_;
  PayloadPool* const buffers_;
  const double high_watermark_;
  const uint64_t write_pages_;
  const std::vector<Bf16> noise_;              // a page's tokens of it
  const std::vector<std::byte> page_records_;  // of one layer of a page
  std::vector<uint32_t> pages_;
  size_t written_ = 0;
  PayloadBuffer rows_;
  uint64_t rows_written_ = 0;  // bytes
  std::vector<PayloadBuffer> answers_;
  Group group_;
  Segment segment_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_LANE_TRIAL_SCRATCH_H_
