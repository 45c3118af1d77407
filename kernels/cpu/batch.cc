#include "kernels/cpu/batch.h"

#include <algorithm>
#include <chrono>

#include "absl/strings/str_cat.h"

namespace latentd {
namespace {

constexpr uint32_t kNone = ~uint32_t{0};

uint64_t NowNs() {
  return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                   std::chrono::steady_clock::now().time_since_epoch())
                                   .count());
}

constexpr uint32_t ItemsLeft(uint64_t claim) { return static_cast<uint32_t>(claim); }
constexpr uint64_t Generation(uint64_t claim) { return claim >> 32; }

}  // namespace

void Batch::Start(uint64_t id, uint64_t sequence, std::span<const Problem> problems) {
  id_ = id;
  sequence_.store(sequence, std::memory_order_relaxed);
  start_ns_.store(0, std::memory_order_relaxed);
  end_ns_.store(0, std::memory_order_relaxed);
  problems_.assign(problems.begin(), problems.end());
  if (bad_rows_.size() < problems.size()) {
    bad_rows_ = std::vector<std::atomic<uint32_t>>(problems.size());
  }
  for (std::atomic<uint32_t>& row : bad_rows_) row.store(kNone, std::memory_order_relaxed);
  cancelled_.store(false, std::memory_order_relaxed);
  cursor_ = {};
  state_.store(State::kWaveDone, std::memory_order_relaxed);
  Advance();
}

bool Batch::Advance() {
  if (state_.load(std::memory_order_acquire) != State::kWaveDone) return false;
  if (cancelled() || !plan_.Build(shape_.geometry, problems_, kMaxPieces, cursor_)) {
    state_.store(State::kDone, std::memory_order_relaxed);
    return false;
  }
  GrowPieces();
  if (plan_.tiles().empty()) {
    Publish(State::kMerging, MergeItems());
  } else {
    Publish(State::kTiles, static_cast<uint32_t>(plan_.tiles().size()));
  }
  return true;
}

std::optional<BatchResult> Batch::Take() {
  if (state_.load(std::memory_order_acquire) != State::kDone) return std::nullopt;
  BatchResult result;
  result.batch_id = id_;
  result.compute_ns =
      end_ns_.load(std::memory_order_relaxed) - start_ns_.load(std::memory_order_relaxed);
  if (cancelled()) {
    result.statuses.assign(problems_.size(), absl::CancelledError("the batch was cancelled"));
  }
  for (size_t i = result.statuses.size(); i < problems_.size(); ++i) {
    const uint32_t row = bad_rows_[i].load(std::memory_order_relaxed);
    const uint32_t heads = problems_[i].heads;
    result.statuses.push_back(row == kNone ? absl::OkStatus()
                                           : absl::OutOfRangeError(absl::StrCat(
                                                 "token ", row / heads, ", head ", row % heads,
                                                 ": logits or output left the range of fp32")));
  }
  state_.store(State::kIdle, std::memory_order_relaxed);
  return result;
}

uint32_t Batch::unclaimed() const { return ItemsLeft(claim_.load(std::memory_order_relaxed)); }

std::optional<WaveItem> Batch::Claim() {
  uint64_t claim = claim_.load(std::memory_order_acquire);
  do {
    if (ItemsLeft(claim) == 0) return std::nullopt;
  } while (!claim_.compare_exchange_weak(claim, claim - 1, std::memory_order_acq_rel,
                                         std::memory_order_acquire));
  // The claim holds this wave in this state: reading it after the exchange is safe.
  const State state = state_.load(std::memory_order_acquire);
  const uint32_t left = ItemsLeft(claim);
  if (start_ns_.load(std::memory_order_relaxed) == 0) {
    uint64_t none = 0;
    start_ns_.compare_exchange_strong(none, NowNs(), std::memory_order_relaxed);
  }
  // Tiles in the plan's order: neighbours share pages, and the first in the sequence start first.
  if (state == State::kTiles) {
    return WaveItem{true, static_cast<uint32_t>(plan_.tiles().size()) - left};
  }
  return WaveItem{false, left - 1};
}

const Tile* Batch::NextTile() const {
  // The caller's own unfinished tile keeps the wave: what is left to claim are its tiles.
  const uint32_t left = unclaimed();
  return left == 0 ? nullptr : &plan_.tiles()[plan_.tiles().size() - left];
}

void Batch::MergeRows(uint32_t index) {
  if (cancelled()) return FinishItem();
  const auto all = plan_.finish_rows();
  const size_t first = size_t{index} * kRowsPerMerge;
  for (const FinishRow& row :
       all.subspan(first, std::min<size_t>(kRowsPerMerge, all.size() - first))) {
    if (kernels_.merge_pieces(shape_, row, pieces_)) continue;
    std::atomic<uint32_t>& bad = bad_rows_[row.problem];
    uint32_t known = bad.load(std::memory_order_relaxed);
    while (row.row < known && !bad.compare_exchange_weak(known, row.row)) {
    }
  }
  FinishItem();
}

void Batch::Publish(State state, uint32_t items) {
  unfinished_.store(items, std::memory_order_relaxed);
  state_.store(state, std::memory_order_relaxed);
  const uint64_t generation = Generation(claim_.load(std::memory_order_relaxed)) + 1;
  // Releases the plan, the pieces' memory and the two stores above to whoever claims.
  claim_.store(generation << 32 | items, std::memory_order_release);
}

void Batch::FinishItem() {
  // acq_rel: the last one sees what all others computed.
  if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
  if (state_.load(std::memory_order_relaxed) == State::kTiles) {
    Publish(State::kMerging, MergeItems());
    return;
  }
  end_ns_.store(NowNs(), std::memory_order_relaxed);
  state_.store(State::kWaveDone, std::memory_order_release);
}

void Batch::GrowPieces() {
  const uint64_t wanted = plan_.pieces();
  if (wanted <= piece_capacity_) return;
  // Doubling, so that a lane warms up in a few steps.
  piece_capacity_ = std::max(wanted, 2 * piece_capacity_);
  piece_out_ = hwy::AllocateAligned<float>(piece_capacity_ * shape_.padded_latent);
  piece_max_.resize(piece_capacity_);
  piece_sum_.resize(piece_capacity_);
  pieces_ = {piece_out_.get(), piece_max_.data(), piece_sum_.data()};
}

uint32_t Batch::MergeItems() const {
  return static_cast<uint32_t>((plan_.finish_rows().size() + kRowsPerMerge - 1) / kRowsPerMerge);
}

}  // namespace latentd
