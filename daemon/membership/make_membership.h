// The membership backend that a configuration asks for.
#ifndef LATENTD_DAEMON_MEMBERSHIP_MAKE_MEMBERSHIP_H_
#define LATENTD_DAEMON_MEMBERSHIP_MAKE_MEMBERSHIP_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "config/config.h"
#include "daemon/membership/membership.h"

namespace latentd {

// INVALID_ARGUMENT, FAILED_PRECONDITION: what etcd needs is not there. `version` is this daemon's.
absl::StatusOr<std::unique_ptr<Membership>> MakeMembership(const Config& config,
                                                           const std::string& version);

}  // namespace latentd

#endif  // LATENTD_DAEMON_MEMBERSHIP_MAKE_MEMBERSHIP_H_
