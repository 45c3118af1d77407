// A batch on its way through the CPU backend, and the claiming of its work by several threads.
//
//   state      who moves it on                                   to
//   idle       lane: Start                                       tiles (or done, without rows)
//   tiles      whoever finishes the wave's last tile             merging
//   merging    whoever finishes the wave's last group of rows    wave done
//   wave done  lane: Advance                                     tiles of the next wave, or done
//   done       lane: Take                                        idle
//
// A wave is as many of the batch's rows as have room for their pieces (plan.h).
#ifndef LATENTD_KERNELS_CPU_BATCH_H_
#define LATENTD_KERNELS_CPU_BATCH_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "hwy/aligned_allocator.h"
#include "kernels/backend.h"
#include "kernels/cpu/plan.h"
#include "kernels/cpu/tile_kernels.h"
#include "kernels/mla.h"

namespace latentd {

// A tile, or a group of rows to merge.
struct WaveItem {
  bool is_tile = false;
  uint32_t index = 0;
};

// Thread rule: Start, Advance, Take and the ones so marked are the lane's; Claim and Finish* are
// anybody's. Whoever has claimed an item may use the plan and the pieces until it calls Finish for
// it: until then the wave cannot end.
class Batch {
 public:
  // Pieces of a wave: 32 MiB of sums at the usual widths.
  static constexpr uint32_t kMaxPieces = 16384;
  static constexpr uint32_t kRowsPerMerge = 8;

  Batch(const KernelShape& shape, const TileKernels& kernels) : shape_(shape), kernels_(kernels) {}

  // Lane only.
  bool idle() const { return state_.load(std::memory_order_acquire) == State::kIdle; }
  void Start(uint64_t id, uint64_t sequence, std::span<const Problem> problems);
  // Plans the next wave if one is done. True if there is new work to claim.
  bool Advance();
  // The result, once. nullopt while there is work left.
  std::optional<BatchResult> Take();
  uint64_t id() const { return id_; }
  // What is not computed yet is only claimed and finished from here on, and there is no next wave.
  void Cancel() { cancelled_.store(true, std::memory_order_relaxed); }

  // Order of submission; the claimants' order of preference.
  uint64_t sequence() const { return sequence_.load(std::memory_order_relaxed); }
  // Items that nobody has claimed yet.
  uint32_t unclaimed() const;
  std::optional<WaveItem> Claim();

  const Tile& tile(uint32_t index) const { return plan_.tiles()[index]; }
  const TileRow* rows(const Tile& tile) const { return plan_.rows(tile).data(); }
  const PieceStore& pieces() const { return pieces_; }

  // The tile that would be claimed next, or null. Only for who has claimed a tile; others may be
  // faster.
  const Tile* NextTile() const;

  // Whether there is no point in computing.
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }
  void FinishTile() { FinishItem(); }
  // Merges group `index` of kRowsPerMerge rows, and finishes it.
  void MergeRows(uint32_t index);

 private:
  enum class State : uint8_t { kIdle, kTiles, kMerging, kWaveDone, kDone };

  void Publish(State state, uint32_t items);
  void FinishItem();
  void GrowPieces();
  uint32_t MergeItems() const;

  const KernelShape& shape_;
  const TileKernels& kernels_;

  std::atomic<State> state_{State::kIdle};
  // Upper half: a generation, new whenever there are new items, so that a claim can never hit
  // another wave's. Lower half: items left to claim; item n - 1 is claimed when n are left.
  std::atomic<uint64_t> claim_{0};
  std::atomic<uint32_t> unfinished_{0};
  std::atomic<uint64_t> sequence_{0};
  std::atomic<uint64_t> start_ns_{0};
  std::atomic<uint64_t> end_ns_{0};
  std::atomic<bool> cancelled_{false};

  uint64_t id_ = 0;
  std::vector<Problem> problems_;
  PlanCursor cursor_;
  WavePlan plan_;
  // Per problem: its first row that left the range of fp32, or kNone.
  std::vector<std::atomic<uint32_t>> bad_rows_;
  uint64_t piece_capacity_ = 0;
  hwy::AlignedFreeUniquePtr<float[]> piece_out_;
  std::vector<float> piece_max_;
  std::vector<float> piece_sum_;
  PieceStore pieces_;
};

}  // namespace latentd

#endif  // LATENTD_KERNELS_CPU_BATCH_H_
