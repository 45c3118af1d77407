// What nodes have measured, as far as this one knows it.
//
// Any thread.
#ifndef LATENTD_DAEMON_SERVICES_COST_LISTING_H_
#define LATENTD_DAEMON_SERVICES_COST_LISTING_H_

#include <string>
#include <vector>

#include "daemon/membership/membership.h"
#include "proto/latentd/v1/cluster.pb.h"

namespace latentd {

// `own` as this node has it now, the others' as the membership tells them, as they came; those that
// have measured nothing are left out. `ids`: only these; none: all.
v1::GetCostsResponse ListCosts(v1::NodeCosts own, const Membership& membership,
                               const std::vector<std::string>& ids);

// What is not to be believed, by node and constant.
std::vector<std::string> QuarantinedCosts(const v1::GetCostsResponse& costs,
                                          const RoutingTable* table, absl::Time now);

}  // namespace latentd

#endif  // LATENTD_DAEMON_SERVICES_COST_LISTING_H_
