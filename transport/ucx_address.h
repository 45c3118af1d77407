// Worker addresses as they travel between processes: UCX's bytes in an envelope. UCX trusts the
// addresses that it is given and may crash on damaged ones, so damage is found here. A forged one
// is not, but for a version that UCX would abort on: whoever may open a session can do that. Pure.
#ifndef LATENTD_TRANSPORT_UCX_ADDRESS_H_
#define LATENTD_TRANSPORT_UCX_ADDRESS_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace latentd {

struct WorkerAddress {
  std::string_view ucx;
  // The transports that its worker may use ("tcp,cuda"), for errors that a person reads.
  std::string_view transports;
};

std::string WrapAddress(const WorkerAddress& address);

// Views of `address`.
absl::StatusOr<WorkerAddress> UnwrapAddress(std::string_view address);

// INVALID_ARGUMENT if UCX's bytes in `theirs` are not in the version of those in `ours`: UCX aborts
// the process on a version that it does not know. Neither is empty.
absl::Status CheckUcxVersion(const WorkerAddress& ours, const WorkerAddress& theirs);

}  // namespace latentd

#endif  // LATENTD_TRANSPORT_UCX_ADDRESS_H_
