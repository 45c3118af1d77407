// `CopyRate` says how many bytes a second are copied, of the last ten seconds. Bytes are counted when
// a range of some MiB has come: at a low rate, seconds apart.
//
// A value, pure: time comes in.
#ifndef LATENTD_DAEMON_REPLICATION_COPY_RATE_H_
#define LATENTD_DAEMON_REPLICATION_COPY_RATE_H_

#include <cstdint>
#include <deque>

#include "absl/time/time.h"

namespace latentd {

class CopyRate {
 public:
  static constexpr absl::Duration kWindow = absl::Seconds(10);

  // `bytes`: ever. Nothing is copied while it is not `active`.
  void Note(uint64_t bytes, bool active, absl::Time now) {
    if (!active) return notes_.clear();
    notes_.push_back({bytes, now});
    while (now - notes_.front().at > kWindow) notes_.pop_front();
  }

  double per_second() const {
    if (notes_.size() < 2) return 0;
    const absl::Duration passed = notes_.back().at - notes_.front().at;
    if (passed <= absl::ZeroDuration()) return 0;
    return static_cast<double>(notes_.back().bytes - notes_.front().bytes) /
           absl::ToDoubleSeconds(passed);
  }

 private:
  struct Counted {
    uint64_t bytes;
    absl::Time at;
  };

  std::deque<Counted> notes_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_REPLICATION_COPY_RATE_H_
