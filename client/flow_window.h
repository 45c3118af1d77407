// `FlowWindow` counts what one session has in flight at one lane against the lane's limits, so that
// a client that waits its turn here is not refused there. Pure; not synchronised.
#ifndef LATENTD_CLIENT_FLOW_WINDOW_H_
#define LATENTD_CLIENT_FLOW_WINDOW_H_

#include <cstdint>

namespace latentd {

class FlowWindow {
 public:
  FlowWindow(uint32_t max_requests, uint64_t max_bytes)
      : max_requests_(max_requests), max_bytes_(max_bytes) {}

  // One request that is larger than the window goes when it is alone: the lane is the judge of it.
  bool TryTake(uint64_t bytes) {
    if (requests_ >= max_requests_) return false;
    if (requests_ > 0 && bytes > max_bytes_ - (bytes_ < max_bytes_ ? bytes_ : max_bytes_))
      return false;
    ++requests_;
    bytes_ += bytes;
    return true;
  }
  // REQUIRES: a matching TryTake.
  void Give(uint64_t bytes) {
    --requests_;
    bytes_ -= bytes;
  }

  uint32_t requests() const { return requests_; }
  uint64_t bytes() const { return bytes_; }

 private:
  const uint32_t max_requests_;
  const uint64_t max_bytes_;
  uint32_t requests_ = 0;
  uint64_t bytes_ = 0;
};

}  // namespace latentd

#endif  // LATENTD_CLIENT_FLOW_WINDOW_H_
