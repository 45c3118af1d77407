// Small things over loopback TCP that need no library. Any thread.
#ifndef LATENTD_TESTS_CLUSTER_LOOPBACK_H_
#define LATENTD_TESTS_CLUSTER_LOOPBACK_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/time/time.h"

namespace latentd::testing {

// `count` ports that nobody listens on now. They lie below the range that the kernel draws
// outgoing ports from, so that a daemon can be started again on its port.
std::vector<uint16_t> FreePorts(int count);

// The body of an HTTP GET of http://ADDRESS/PATH, address "127.0.0.1:PORT". Throws
// std::runtime_error: no connection, no 200, nothing within `limit`.
std::string HttpGet(const std::string& address, const std::string& path,
                    absl::Duration limit = absl::Seconds(5));

}  // namespace latentd::testing

#endif  // LATENTD_TESTS_CLUSTER_LOOPBACK_H_
