// How a node stands with the authority of its cluster: its lease, who coordinates, and what is not
// as it should be. A value, for operators.
#ifndef LATENTD_DAEMON_MEMBERSHIP_AUTHORITY_STATUS_H_
#define LATENTD_DAEMON_MEMBERSHIP_AUTHORITY_STATUS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace latentd {

struct AuthorityStatus {
  bool registered = false;
  int64_t lease = 0;          // 0: none
  absl::Duration serves_for;  // if the authority says nothing more; 0: the fence is closed
  std::string coordinator;    // its node id; empty: there is none
  absl::Time coordinator_since = absl::InfinitePast();  // by its own clock; InfinitePast: not known
  bool coordinates = false;                             // this node does
  std::vector<std::string> troubles;                    // the most serious first
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_MEMBERSHIP_AUTHORITY_STATUS_H_
