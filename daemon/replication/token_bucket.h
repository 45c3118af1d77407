// A bound on a rate: so many bytes a second, up to a quarter of a second's worth at once. What is
// larger than that is let through alone and paid for afterwards. Pure: time comes in.
#ifndef LATENTD_DAEMON_REPLICATION_TOKEN_BUCKET_H_
#define LATENTD_DAEMON_REPLICATION_TOKEN_BUCKET_H_

#include <algorithm>
#include <cstdint>

#include "absl/time/time.h"

namespace latentd {

class TokenBucket {
 public:
  // 0: no bound.
  explicit TokenBucket(uint64_t bytes_per_second)
      : rate_(static_cast<double>(bytes_per_second)), credit_(rate_ / 4) {}

  // How long to wait before anything may be taken; zero: now.
  absl::Duration Wait(absl::Time now) {
    if (rate_ == 0) return absl::ZeroDuration();
    if (last_ < now) {
      credit_ = std::min(rate_ / 4, credit_ + rate_ * absl::ToDoubleSeconds(now - last_));
      last_ = now;
    }
    return credit_ > 0 ? absl::ZeroDuration()
                       : absl::Seconds(-credit_ / rate_) + absl::Microseconds(1);
  }
  void Take(uint64_t bytes) {
    if (rate_ != 0) credit_ -= static_cast<double>(bytes);
  }

 private:
  const double rate_;
  double credit_;  // below 0: owed
  absl::Time last_ = absl::InfinitePast();
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_REPLICATION_TOKEN_BUCKET_H_
