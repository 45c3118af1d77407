// Worker addresses as they travel between processes: UCX's bytes in an envelope. UCX trusts the
// addresses that it is given and may crash on damaged ones, so damage is found here. (A forged one
// is not: addresses come through authenticated sessions only.) Pure.
#ifndef LATENTD_TRANSPORT_UCX_ADDRESS_H_
#define LATENTD_TRANSPORT_UCX_ADDRESS_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace latentd {

std::string WrapAddress(std::string_view ucx_address);

// UCX's bytes inside `address`, a view of it.
absl::StatusOr<std::string_view> UnwrapAddress(std::string_view address);

}  // namespace latentd

#endif  // LATENTD_TRANSPORT_UCX_ADDRESS_H_
