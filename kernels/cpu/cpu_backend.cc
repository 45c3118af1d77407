#include "kernels/cpu/cpu_backend.h"

#include <algorithm>
#include <chrono>
#include <limits>
#include <optional>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/cpu/batch.h"
#include "kernels/cpu/helper_threads.h"
#include "kernels/cpu/tile_kernels.h"

namespace latentd {
namespace {

// The longest that Poll computes before it returns to the lane, less about the time of one page.
constexpr std::chrono::microseconds kPollBudget{80};

// Unclaimed items that make a helper's waking worth its price, a few microseconds.
constexpr uint32_t kWorthWaking = 2;

// One thread's work: it claims an item of the oldest batch that has some, and does it in steps of a
// page, so that the lane's thread can stop in the middle of a tile.
class Worker {
 public:
  Worker(const KernelShape& shape, const TileKernels& kernels)
      : kernels_(kernels), scratch_(shape), shape_(shape) {}

  bool busy() const { return batch_ != nullptr; }

  // REQUIRES: not busy. False if no batch has work.
  bool Claim(std::span<const std::unique_ptr<Batch>> batches) {
    // Another thread may take the last item first: then look again.
    while (Batch* batch = Oldest(batches)) {
      const std::optional<WaveItem> item = batch->Claim();
      if (!item) continue;
      batch_ = batch;
      item_ = *item;
      if (item_.is_tile && !batch->cancelled()) {
        const Tile& tile = batch->tile(item_.index);
        page_ = tile.first_page;
        kernels_.begin_tile(shape_, tile, batch->rows(tile), batch->pieces(), scratch_);
      }
      return true;
    }
    return false;
  }

  // REQUIRES: busy. Computes one page or merges one group of rows; not busy any more when the item
  // is finished.
  void Step() {
    if (!item_.is_tile) {
      std::exchange(batch_, nullptr)->MergeRows(item_.index);
      return;
    }
    if (batch_->cancelled()) {
      std::exchange(batch_, nullptr)->FinishTile();
      return;
    }
    const Tile& tile = batch_->tile(item_.index);
    const TileRow* rows = batch_->rows(tile);
    kernels_.tile_page(shape_, tile, rows, batch_->pieces(), page_, NextPage(tile), scratch_);
    if (++page_ < tile.end_page) return;
    kernels_.end_tile(tile, rows, batch_->pieces(), scratch_);
    std::exchange(batch_, nullptr)->FinishTile();
  }

 private:
  // What comes after this page: the tile's next, or the first of the tile that is likely to be ours
  // then.
  const std::byte* NextPage(const Tile& tile) const {
    if (page_ + 1 < tile.end_page) return PageRecords(shape_, tile, page_ + 1);
    const Tile* next = batch_->NextTile();
    return next == nullptr ? nullptr : PageRecords(shape_, *next, next->first_page);
  }

  static Batch* Oldest(std::span<const std::unique_ptr<Batch>> batches) {
    Batch* oldest = nullptr;
    uint64_t sequence = std::numeric_limits<uint64_t>::max();
    for (const std::unique_ptr<Batch>& batch : batches) {
      if (batch->unclaimed() == 0 || batch->sequence() >= sequence) continue;
      oldest = batch.get();
      sequence = batch->sequence();
    }
    return oldest;
  }

  const TileKernels& kernels_;
  TileScratch scratch_;
  const KernelShape& shape_;
  Batch* batch_ = nullptr;
  WaveItem item_;
  uint32_t page_ = 0;
};

class CpuBackend : public Backend {
 public:
  explicit CpuBackend(const CpuBackendOptions& options)
      : shape_(MakeKernelShape(options.geometry, options.format, options.cache)),
        kernels_(BestTileKernels()) {
    for (int i = 0; i < options.max_in_flight; ++i) {
      batches_.push_back(std::make_unique<Batch>(shape_, kernels_));
    }
    // One for the lane, and one for each helper.
    for (int i = 0; i <= options.threads; ++i) {
      workers_.push_back(std::make_unique<Worker>(shape_, kernels_));
    }
    if (options.threads > 0) {
      helpers_ = std::make_unique<HelperThreads>(options.threads, options.cpus, options.spin_us,
                                                 [this](int helper) { return RunHelper(helper); });
    }
  }

  std::string Describe() const override {
    return absl::StrCat("cpu (", kernels_.name, ", ", workers_.size(),
                        workers_.size() == 1 ? " thread)" : " threads)");
  }

  void Submit(uint64_t batch_id, std::span<const Problem> problems) override {
    const auto free = std::find_if(batches_.begin(), batches_.end(),
                                   [](const std::unique_ptr<Batch>& b) { return b->idle(); });
    (*free)->Start(batch_id, ++sequence_, problems);
    ++in_flight_;
    WakeHelper();
  }

  void Cancel(uint64_t batch_id) override {
    for (const std::unique_ptr<Batch>& batch : batches_) {
      if (!batch->idle() && batch->id() == batch_id) batch->Cancel();
    }
  }

  bool Poll(std::vector<BatchResult>& done) override {
    if (in_flight_ == 0) return false;
    bool progress = Compute();
    for (const std::unique_ptr<Batch>& batch : batches_) {
      if (batch->Advance()) {
        progress = true;
        WakeHelper();
      }
      if (std::optional<BatchResult> result = batch->Take()) {
        done.push_back(*std::move(result));
        --in_flight_;
        progress = true;
      }
    }
    return progress;
  }

  int in_flight() const override { return in_flight_; }
  int max_in_flight() const override { return static_cast<int>(batches_.size()); }

 private:
  // The lane's share. True if it did anything.
  bool Compute() {
    const auto end = std::chrono::steady_clock::now() + kPollBudget;
    Worker& worker = *workers_[0];
    bool progress = false;
    while (worker.busy() || worker.Claim(batches_)) {
      worker.Step();
      if (!worker.busy()) WakeHelper();
      progress = true;
      if (std::chrono::steady_clock::now() >= end) break;
    }
    return progress;
  }

  bool RunHelper(int helper) {
    Worker& worker = *workers_[static_cast<size_t>(helper) + 1];
    if (!worker.Claim(batches_)) return false;
    WakeHelper();
    while (worker.busy()) worker.Step();
    return true;
  }

  // Any thread that has just made work, taken some or finished some: one more helper, if there is
  // work for it.
  void WakeHelper() {
    if (!helpers_) return;
    uint32_t unclaimed = 0;
    for (const std::unique_ptr<Batch>& batch : batches_) unclaimed += batch->unclaimed();
    if (unclaimed >= kWorthWaking) helpers_->Wake();
  }

  const KernelShape shape_;
  const TileKernels kernels_;
  std::vector<std::unique_ptr<Batch>> batches_;
  std::vector<std::unique_ptr<Worker>> workers_;
  uint64_t sequence_ = 0;
  int in_flight_ = 0;
  // Last: its threads use all of the above.
  std::unique_ptr<HelperThreads> helpers_;
};

}  // namespace

std::unique_ptr<Backend> MakeCpuBackend(const CpuBackendOptions& options) {
  return std::make_unique<CpuBackend>(options);
}

}  // namespace latentd
