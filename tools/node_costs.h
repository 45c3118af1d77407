// What the nodes of a cluster say that they have measured. Blocking; any thread.
#ifndef LATENTD_TOOLS_NODE_COSTS_H_
#define LATENTD_TOOLS_NODE_COSTS_H_

#include <string>
#include <vector>

#include "absl/time/time.h"
#include "client/tls_files.h"
#include "proto/latentd/v1/costs.pb.h"
#include "routing/routing_table.h"

namespace latentd {

struct NodeCostsAnswers {
  std::vector<v1::NodeCosts> costs;
  std::vector<std::string> silent;  // a line for each node that could not be asked: who, and why
};

// Each node of the table at its own address, since one may know its own costs only.
NodeCostsAnswers AskNodesForCosts(const RoutingTable& table, const TlsFiles& tls,
                                  absl::Duration timeout);

}  // namespace latentd

#endif  // LATENTD_TOOLS_NODE_COSTS_H_
