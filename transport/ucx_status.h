// UCX's status codes as absl::Status.
#ifndef LATENTD_TRANSPORT_UCX_STATUS_H_
#define LATENTD_TRANSPORT_UCX_STATUS_H_

#include <string_view>

#include "absl/status/status.h"
#include "ucs/type/status.h"

namespace latentd {

// `what` says what was being done. A peer that went away is UNAVAILABLE, whichever way UCX noticed.
absl::Status FromUcx(ucs_status_t status, std::string_view what);

}  // namespace latentd

#endif  // LATENTD_TRANSPORT_UCX_STATUS_H_
