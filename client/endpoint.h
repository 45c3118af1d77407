// "HOST:PORT" as users write endpoints. gRPC takes much more for an address (a host alone, port 99999
// cut to 16 bits, names of resolvers) and fails late and unclearly. Pure; any thread.
#ifndef LATENTD_CLIENT_ENDPOINT_H_
#define LATENTD_CLIENT_ENDPOINT_H_

#include <string_view>

#include "absl/status/status.h"

namespace latentd {

// INVALID_ARGUMENT quoting it and saying what was expected. An IPv6 address stands in brackets.
absl::Status CheckEndpoint(std::string_view endpoint);

}  // namespace latentd

#endif  // LATENTD_CLIENT_ENDPOINT_H_
