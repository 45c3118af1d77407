// Chunks of all lanes as one listing.
#ifndef LATENTD_DAEMON_SERVICES_CHUNK_LISTING_H_
#define LATENTD_DAEMON_SERVICES_CHUNK_LISTING_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "proto/latentd/v1/admin.pb.h"

namespace latentd {

class Lane;

inline constexpr uint32_t kDefaultChunkListing = 100;
inline constexpr uint32_t kMaxChunkListing = 10'000;

// Asks every lane and waits for all; the response is ordered by id and `total` counts what the
// limit cut off too. INVALID_ARGUMENT: a prefix that is not hexadecimal, too long a one, too high a
// limit. UNAVAILABLE: a lane did not answer within `patience`. Any thread but a lane's.
absl::StatusOr<v1::ChunksResponse> ListChunks(const std::vector<Lane*>& lanes,
                                              const v1::ChunksRequest& request,
                                              absl::Duration patience);

}  // namespace latentd

#endif  // LATENTD_DAEMON_SERVICES_CHUNK_LISTING_H_
