// `TroubleLog` says what the log is to be told of a node's troubles: each when it begins and when it
// is over, however often it is stumbled upon meanwhile and whatever numbers its words carry.
//
// What etcd does not do is one trouble. Its words follow the request that failed last and change all
// the time: at most once a minute the log is told the newest.
//
// A value, pure: time comes in, lines come out.
#ifndef LATENTD_DAEMON_MEMBERSHIP_TROUBLE_LOG_H_
#define LATENTD_DAEMON_MEMBERSHIP_TROUBLE_LOG_H_

#include <map>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace latentd {

struct TroubleLine {
  bool over = false;
  std::string trouble;
  absl::Duration lasted;  // if it is over
};

class TroubleLog {
 public:
  // One that was away for less than this has not ended.
  static constexpr absl::Duration kGoneAfter = absl::Seconds(10);
  static constexpr absl::Duration kRemindAfter = absl::Minutes(1);

  // `etcd`: what it does not do; empty: nothing. It may be among `troubles` too.
  std::vector<TroubleLine> Observe(const std::string& etcd,
                                   const std::vector<std::string>& troubles, absl::Time now);
  // None is known: nothing will be said of the past.
  bool empty() const { return known_.empty(); }

 private:
  struct Known {
    std::string told;
    absl::Time began;
    absl::Time told_at;
    absl::Time seen;
  };

  std::map<std::string, Known> known_;  // by the words without numbers; "etcd"
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_MEMBERSHIP_TROUBLE_LOG_H_
