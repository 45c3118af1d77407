// Why an address cannot be listened on, asked of the system itself: server libraries keep the
// reason to themselves.
#ifndef LATENTD_DAEMON_PROCESS_BIND_CHECK_H_
#define LATENTD_DAEMON_PROCESS_BIND_CHECK_H_

#include <string>

#include "absl/status/status.h"

namespace latentd {

// Binds a socket to "host:port" and lets it go. UNAVAILABLE: the address is in use, or not this
// machine's. INVALID_ARGUMENT: not an address. Any thread; may resolve a name.
absl::Status CheckBindable(const std::string& listen);

}  // namespace latentd

#endif  // LATENTD_DAEMON_PROCESS_BIND_CHECK_H_
