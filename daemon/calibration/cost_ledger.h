// `CostLedger` is what this node has measured so far, as the others are told of it.
//
// Any thread.
#ifndef LATENTD_DAEMON_CALIBRATION_COST_LEDGER_H_
#define LATENTD_DAEMON_CALIBRATION_COST_LEDGER_H_

#include <cstdint>
#include <map>
#include <mutex>
#include <vector>

#include "absl/time/time.h"
#include "daemon/calibration/lane_survey.h"
#include "kernels/mla.h"
#include "proto/latentd/v1/costs.pb.h"
#include "routing/costs_proto.h"
#include "routing/ids.h"

namespace latentd {

class CostLedger {
 public:
  CostLedger(const NodeId& node, Generation generation, RecordFormat format, absl::Duration period);

  void SetLane(uint32_t lane, const LaneTables& tables, absl::Time now);
  void SetLink(const PeerLink& link);
  void DropLink(const NodeId& peer);

  v1::NodeCosts message() const;
  size_t links() const;

 private:
  const RecordFormat format_;
  mutable std::mutex mutex_;
  v1::NodeCosts head_;  // without lists
  std::map<uint32_t, std::vector<v1::ComputeCosts>> lanes_;
  std::map<NodeId, v1::LinkCosts> links_;
  absl::Time measured_ = absl::InfinitePast();
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_CALIBRATION_COST_LEDGER_H_
