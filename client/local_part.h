// `LocalPart` is what a query attends in the client's own pages, while its holders answer for the
// rest: one batch, one partial. The client's thread only.
#ifndef LATENTD_CLIENT_LOCAL_PART_H_
#define LATENTD_CLIENT_LOCAL_PART_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/chunk_cache.h"
#include "client/fanout.h"
#include "client/query.h"
#include "kernels/mla.h"

namespace latentd {

class LocalPart {
 public:
  // Takes from `pieces` those whose chunk lies in the cache at the piece's shift, with all that is
  // visible of the query's layer, and starts to attend them; null if there are none.
  // INVALID_ARGUMENT: a row of theirs that is not finite.
  static absl::StatusOr<std::unique_ptr<LocalPart>> Take(const AttendQuery& query,
                                                         ChunkCache& cache,
                                                         std::vector<Piece>* pieces);
  // Waits for what is under way of the batch.
  ~LocalPart();
  LocalPart(const LocalPart&) = delete;
  LocalPart& operator=(const LocalPart&) = delete;

  // A bounded piece of the work; whether all is done. An error once: OUT_OF_RANGE for logits that
  // leave the range of fp32.
  absl::StatusOr<bool> Work();
  // The outputs are of no use any more: Work is done sooner.
  void Cancel();

  // REQUIRES: Work has returned true.
  MessagePartial partial() const {
    return {message_.runs, {out_.data(), lse_.data(), OutFormat::kFp32}};
  }
  uint32_t chunks() const { return static_cast<uint32_t>(uses_.size()); }
  uint64_t compute_ns() const { return compute_ns_; }

 private:
  LocalPart(const AttendQuery& query, ChunkCache& cache, std::vector<PageCache::Use> uses,
            AttendMessage message);
  absl::Status Start(const AttendQuery& query);

  ChunkCache& cache_;
  const std::vector<PageCache::Use> uses_;  // one for each piece
  const AttendMessage message_;
  std::vector<Group> groups_;
  std::vector<Segment> segments_;
  std::vector<Bf16> rows_;  // where they do not lie together in the query
  std::vector<float> out_;
  std::vector<float> lse_;
  std::optional<uint64_t> batch_;  // that is under way
  uint64_t compute_ns_ = 0;
};

}  // namespace latentd

#endif  // LATENTD_CLIENT_LOCAL_PART_H_
