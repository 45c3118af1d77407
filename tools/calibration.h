// `Calibration` is what one requester has measured of itself, of the nodes and of its links to them:
// samples, which grow round by round, and the constants that come out of them. model-check, fanin,
// frontier and explain predict from these. Values; one thread.
//
// What a batch takes is told from outside: an attend's round trip less what the link (by echoes of
// as many bytes) and the merge take. So it runs from handing the rows over to having the answer:
// waking whoever computes and looking at every row are part of it, which a holder's own clock, from
// the first tile to the last, leaves out.
#ifndef LATENTD_TOOLS_CALIBRATION_H_
#define LATENTD_TOOLS_CALIBRATION_H_

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "client/pair_probe.h"
#include "routing/compute_fit.h"
#include "routing/cost_constants.h"
#include "routing/layout.h"
#include "routing/plan.h"
#include "tools/attend_probe.h"
#include "tools/local_attention.h"

namespace latentd {

struct GridPoint {
  uint32_t rows = 0;
  uint32_t tokens = 0;

  friend auto operator<=>(const GridPoint&, const GridPoint&) = default;
};

struct NodeSamples {
  LinkTimings link;
  FetchTimings fetch;
  std::map<GridPoint, std::vector<double>> attend_us;  // round trips of one node, merged
};

struct CalibrationSamples {
  std::vector<NodeSamples> nodes;                     // as AttendProbe numbers them
  std::map<GridPoint, std::vector<double>> local_us;  // of the requester itself
  std::vector<double> merge_us;                       // a row and partial
  std::vector<double> splice_records_per_us;          // NaN: the layout has no rope
  // Rows and answers were in a device's memory. Echoes are of the host's, and so is the merge that
  // is timed: what a row takes beside the probe is then told from the attends alone.
  bool on_device = false;
};

struct Calibration {
  std::vector<NodeId> names;
  std::vector<NodeConstants> nodes;
  std::vector<PairConstants> pairs;
  RequesterConstants requester;

  // Of the planner, idle; they borrow from this.
  std::vector<PlanHolder> Holders() const;
};

struct CalibrationOptions {
  std::vector<uint32_t> rows = {16, 64, 192, 384, 640, 1024};
  std::vector<uint32_t> tokens = {64, 192, 512, 1536};
  uint32_t repeats = 5;  // of each point in a round
  uint32_t warmup = 1;
};

// One round of everything: links, fetches, attends at the points, this machine's own attention.
absl::Status AddSamples(AttendProbe& probe, LocalAttention& local,
                        const CalibrationOptions& options, CalibrationSamples& samples);

// This machine's part of it; `more_tokens` beside the options'.
void AddLocalSamples(LocalAttention& local, std::span<const uint32_t> more_tokens,
                     const CalibrationOptions& options, CalibrationSamples& samples);

// Without nodes, the requester alone. Errors as FitPair, FitFetch and FitCompute, and of Vet: what was measured makes no sense.
//
// `quantile` of what was timed is taken for what a call takes: 0.5 its median; less leaves out what
// a machine's other processes do to it.
absl::StatusOr<Calibration> Calibrate(const Layout& layout, const std::vector<NodeId>& names,
                                      const CalibrationSamples& samples, double quantile = 0.5);

// The value that such a share of the values does not exceed. NaN: no values.
double QuantileOf(std::vector<double> values, double quantile);

}  // namespace latentd

#endif  // LATENTD_TOOLS_CALIBRATION_H_
