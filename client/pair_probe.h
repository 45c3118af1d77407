// Measures what the link between this requester and one holder costs, over the connection that its
// queries take: messages of several sizes in each direction (Client::Echo) and, with a chunk that
// the holder has, fetches. The fits make PairConstants of them (routing/cost_constants.h).
//
// Time* are blocking calls on the client's thread; other calls of the client that are in flight go
// on, and disturb what is measured. How the requester waits is part of it: one that polls
// (ClientOptions::spin) finds a shorter probe than one that has to be woken. Fit* are pure.
#ifndef LATENTD_CLIENT_PAIR_PROBE_H_
#define LATENTD_CLIENT_PAIR_PROBE_H_

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/client.h"
#include "routing/cost_constants.h"
#include "routing/link_fit.h"

namespace latentd {

struct PairProbeOptions {
  // Of messages; those that the daemon does not take are left out.
  std::vector<uint64_t> sizes = {0, 4096, 16384, 65536, 131072, 262144, 524288, 1048576};
  uint32_t repeats = 24;  // of each size and direction; fewer, but some, where most_bytes says so
  uint64_t most_bytes = uint64_t{128} << 20;  // of everything that is sent and received
  absl::Duration timeout = absl::Seconds(10);
  std::function<bool()> interrupted = [] { return false; };
};

struct LinkTimings {
  std::vector<LinkSample> out;  // round trips of so many bytes with an empty answer
  std::vector<LinkSample> in;   // of an empty message with an answer of so many bytes
};

// INVALID_ARGUMENT: fewer than two sizes that the daemon takes. CANCELLED when interrupted.
// Otherwise as Client::Echo.
absl::StatusOr<LinkTimings> TimeLink(Client& client, const Holder& holder,
                                     const PairProbeOptions& options);

// probe, out_bytes_per_us and in_bytes_per_us of the pair; the others stay missing. Errors as
// FitLink, and of Vet.
absl::StatusOr<PairConstants> FitPair(absl::string_view holder, const LinkTimings& timings);

// Of `range`, which one holder has: fetches of 1/8, 1/4, 1/2 and all of its tokens in one piece.
struct FetchTimings {
  std::vector<LinkSample> whole;  // of so many bytes in one range
  uint32_t ranges = 0;            // that the pieces below were asked in, all at once
  uint64_t pieces_bytes = 0;
  std::vector<double> pieces_us;  // the same bytes as the longest of `whole`, in pieces
};

// REQUIRES: at least 8 tokens. Errors as Client::Fetch; CANCELLED when interrupted.
absl::StatusOr<FetchTimings> TimeFetch(Client& client, const ChunkRange& range,
                                       const PairProbeOptions& options);

// handshake and range of `pair`, whose in_bytes_per_us is known; and into `copy` what a byte of a
// fetch takes beside the wire: at the holder, which gathers, and here, where it is put in its place.
// Nothing is written on an error: as FitLink, and of Vet.
absl::Status FitFetch(absl::string_view holder, const FetchTimings& timings, PairConstants& pair,
                      Constant<ConstantKind::kCopyRate>& copy);

}  // namespace latentd

#endif  // LATENTD_CLIENT_PAIR_PROBE_H_
