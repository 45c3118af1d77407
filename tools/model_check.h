// Sets the cost model against measurements: predicts routed round trips at points that it was not
// fitted to, and asks the planner for choices whose alternatives were all measured.
//
// What it fits from and what it checks are timed in turns, in rounds over the whole run, so that a
// machine that is busier for a while is so for both. One thread; blocks.
#ifndef LATENTD_TOOLS_MODEL_CHECK_H_
#define LATENTD_TOOLS_MODEL_CHECK_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "proto/latentd/v1/costs.pb.h"
#include "tools/calibration.h"
#include "tools/predictions.h"

namespace latentd {

struct ModelCheckOptions {
  CalibrationOptions fit;
  std::vector<uint32_t> rows = {16, 32, 128, 512, 768};
  std::vector<uint32_t> tokens = {256, 1024};
  std::vector<uint32_t> steps = {1, 4, 16, 64, 256};
  uint32_t holders = 1;     // nodes; points have 1 to so many
  uint32_t requests = 200;  // round trips that count, of each point
  uint32_t warmup = 50;
  uint32_t rounds = 10;
  int local_threads = 1;             // helpers of the requester's own attention
  std::string device;                // as AttendProbeOptions has it
  std::vector<v1::NodeCosts> costs;  // what nodes say of themselves
  std::function<void(const std::string&)> progress = [](const std::string&) {};
  std::function<bool()> interrupted = [] { return false; };
  absl::Duration timeout = absl::Seconds(10);
};

struct CheckedPoint {
  PredictionCase at;
  RoutePrediction predicted;
  double measured_us = 0;  // as the caller sees it, merged
  double error() const { return predicted.layer_us / measured_us - 1; }
};

struct CheckedChoice {
  PredictionCase at;
  uint32_t fetched = 0;  // holders, as planned
  uint32_t best_fetched = 0;
  double measured_us = 0;       // of the plan, from measured parts
  double best_measured_us = 0;  // of the best number of holders to fetch from
  bool good() const { return measured_us <= 1.05 * best_measured_us; }
};

struct CheckedFetch {
  PredictionCase at;
  double predicted_us = 0;
  double measured_us = 0;
};

// Predicted and measured by one quantile of all that was timed.
struct ModelComparison {
  double quantile = 0.5;
  Calibration calibration;
  std::vector<CheckedPoint> points;
  std::vector<CheckedFetch> fetches;
  std::vector<CheckedChoice> choices;

  // Mean of |error| over the points of at least so many rows; NaN: there are none.
  double MeanError(uint32_t least_rows) const;
  double GoodChoices() const;  // share of them; NaN: there are none
};

struct ModelCheckReport {
  Layout layout;
  std::string transports;
  ModelComparison medians;
  // The same of the quickest tenth: closer to what a machine without other processes would show.
  ModelComparison quickest;
  // Medians, predicted from the tables that the nodes timed themselves; where all of them have one.
  std::optional<ModelComparison> by_nodes;
};

// CANCELLED when interrupted. Errors as AttendProbe::Create and Calibrate.
absl::StatusOr<ModelCheckReport> CheckModel(Client& client, const ModelCheckOptions& options);

}  // namespace latentd

#endif  // LATENTD_TOOLS_MODEL_CHECK_H_
