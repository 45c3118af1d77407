// What latentctl shows of a daemon's answers: as a table for people, as JSON for programs. Pure;
// any thread.
#ifndef LATENTD_TOOLS_CTL_VIEWS_H_
#define LATENTD_TOOLS_CTL_VIEWS_H_

#include <nlohmann/json.hpp>
#include <string>

#include "proto/latentd/v1/admin.pb.h"
#include "proto/latentd/v1/cluster.pb.h"

namespace latentd {

struct View {
  std::string text;
  nlohmann::json json;
};

View StatusView(const v1::StatusResponse& status);
// Slots as the table has them; without a table, none are shown.
View NodesView(const v1::ListNodesResponse& nodes, const v1::RoutingTable& table);
// `ranges`: every range of slots with its holders, else only how many slots each node holds.
View TableView(const v1::RoutingTable& table, bool ranges);
View ChunksView(const v1::ChunksResponse& chunks);

// "active", "draining", "down", "unknown".
std::string StateName(v1::NodeState state);

}  // namespace latentd

#endif  // LATENTD_TOOLS_CTL_VIEWS_H_
