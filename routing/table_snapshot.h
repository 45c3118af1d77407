// A whole table in few bytes, to be stored: about 8 bytes for each run of slots that share their
// holders, where a v1.RoutingTable takes 30.
//
// Pure functions; any thread.
#ifndef LATENTD_ROUTING_TABLE_SNAPSHOT_H_
#define LATENTD_ROUTING_TABLE_SNAPSHOT_H_

#include <memory>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "routing/routing_table.h"

namespace latentd {

// A serialised v1.TableSnapshot.
std::string PackTable(const RoutingTable& table);
// INVALID_ARGUMENT: it is none, or RoutingTable::Create refuses what it says.
absl::StatusOr<std::shared_ptr<const RoutingTable>> UnpackTable(std::string_view packed);

}  // namespace latentd

#endif  // LATENTD_ROUTING_TABLE_SNAPSHOT_H_
