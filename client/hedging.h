// When a request that is slow is sent to a second holder as well (a hedge), and how many of them
// there may be. Pure; not synchronised.
#ifndef LATENTD_CLIENT_HEDGING_H_
#define LATENTD_CLIENT_HEDGING_H_

#include <cstdint>
#include <optional>

#include "absl/time/time.h"
#include "client/latency_estimate.h"

namespace latentd {

// Of ATTEND to a chunk that has several in-sync holders.
struct HedgeOptions {
  double quantile = 0;  // of the asked lane's own latency, after which it is hedged; 0: never
  absl::Duration floor = absl::Milliseconds(1);  // not before this
  double max_share = 0.05;                       // hedges, of all requests that could have one
};

// How long to wait for an answer before the hedge goes out. None: never, or too little is known.
std::optional<uint64_t> HedgeDelayNs(const HedgeOptions& options, const LatencyEstimate& latency);

// Keeps hedges to their share at every moment: slowness that strikes all holders must not double
// the load on them. What was not used is saved up, for a few hedges.
class HedgeBudget {
 public:
  explicit HedgeBudget(double max_share);

  // A request that could have a hedge goes out.
  void OnRequest();
  // Whether one more hedge may be sent, which then counts.
  bool Take();

 private:
  const double share_;
  double saved_ = 0;
};

}  // namespace latentd

#endif  // LATENTD_CLIENT_HEDGING_H_
