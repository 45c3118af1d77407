// `CachedAttention` computes attention over a requester's own pages, for several calls at a time:
// it hands batches to a backend, and says of each when it is done. The client's thread only.
#ifndef LATENTD_CLIENT_CACHED_ATTENTION_H_
#define LATENTD_CLIENT_CACHED_ATTENTION_H_

#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "kernels/backend.h"
#include "kernels/mla.h"

namespace latentd {

class CachedAttention {
 public:
  struct Done {
    absl::Status status;
    uint64_t compute_ns = 0;
  };

  explicit CachedAttention(std::unique_ptr<Backend> backend) : backend_(std::move(backend)) {}

  // What the problem points to stays valid and unchanged until Poll has returned the batch.
  uint64_t Start(const Problem& problem);
  // Its outputs are of no use any more.
  void Cancel(uint64_t batch);
  // Moves everything on by a bounded piece; what became of the batch, once, when it is done.
  std::optional<Done> Poll(uint64_t batch);

 private:
  void Submit();

  const std::unique_ptr<Backend> backend_;
  uint64_t next_ = 1;
  std::deque<std::pair<uint64_t, Problem>> waiting_;
  absl::flat_hash_map<uint64_t, Done> done_;
  std::vector<BatchResult> results_;  // kept for its capacity
};

}  // namespace latentd

#endif  // LATENTD_CLIENT_CACHED_ATTENTION_H_
