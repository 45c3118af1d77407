// What latentctl shows of what nodes have measured. Pure; any thread.
#ifndef LATENTD_TOOLS_COSTS_VIEW_H_
#define LATENTD_TOOLS_COSTS_VIEW_H_

#include "absl/time/time.h"
#include "proto/latentd/v1/admin.pb.h"
#include "tools/ctl_views.h"

namespace latentd {

// A few points of each table, each link, its age and state; JSON has every point as it came.
View CostsView(const v1::CostsResponse& costs, absl::Time now);
// Of the node that was asked.
View CalibrateView(const v1::CalibrateResponse& measured, absl::Time now);

}  // namespace latentd

#endif  // LATENTD_TOOLS_COSTS_VIEW_H_
