// `LocalAttention` is what a requester on this machine's processor pays itself: attention over
// records that it has, merging, and re-adapting what it fetched. It times them in place, over random
// records. One thread; calls block.
#ifndef LATENTD_TOOLS_LOCAL_ATTENTION_H_
#define LATENTD_TOOLS_LOCAL_ATTENTION_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "kernels/backend.h"
#include "kernels/mla.h"
#include "routing/layout.h"

namespace latentd {

class LocalAttention {
 public:
  // For at most so many rows and tokens. `threads`: helpers besides the calling thread.
  LocalAttention(const Layout& layout, uint32_t most_rows, uint32_t most_tokens, int threads);

  uint32_t most_tokens() const { return static_cast<uint32_t>(page_ids_.size()) * kPageTokens; }
  // µs of one batch from handing it over to having its answer. REQUIRES: no more rows and tokens
  // than it was made for.
  double TimeAttendUs(uint32_t rows, uint32_t tokens);
  // µs of merging the partials of `rows` rows of two holders, by partial and row.
  double TimeMergeUs(uint32_t rows);
  // Records of all layers turned to another position, a µs; NaN where the layout has no rope.
  double TimeSpliceRecordsPerUs();

 private:
  const Layout layout_;
  std::vector<std::byte> pages_;
  std::vector<uint32_t> page_ids_;
  std::vector<Bf16> rows_;
  std::vector<std::byte> out_[3];
  std::vector<float> lse_[3];
  std::unique_ptr<Backend> backend_;
  uint64_t next_batch_ = 1;
};

}  // namespace latentd

#endif  // LATENTD_TOOLS_LOCAL_ATTENTION_H_
