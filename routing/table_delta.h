// What has changed from one table to a later one, as a v1.RoutingTable with `base_epoch`: what
// travels instead of a whole table when a node comes or goes.
//
// Pure functions; any thread.
#ifndef LATENTD_ROUTING_TABLE_DELTA_H_
#define LATENTD_ROUTING_TABLE_DELTA_H_

#include <cstdint>
#include <memory>
#include <optional>

#include "absl/status/statusor.h"
#include "proto/latentd/v1/cluster.pb.h"
#include "routing/routing_table.h"

namespace latentd {

// Equal for equal tables, epoch included: whether two sides mean the same base.
uint64_t HashTable(const RoutingTable& table);

// Nothing if only the whole table can say it: its nodes are not those of `base` in their order,
// then the new ones.
std::optional<v1::RoutingTable> MakeDelta(const RoutingTable& base, const RoutingTable& next);

// FAILED_PRECONDITION: the delta is of another table than `base`. INVALID_ARGUMENT: it makes none.
absl::StatusOr<std::shared_ptr<const RoutingTable>> ApplyDelta(const RoutingTable& base,
                                                               const v1::RoutingTable& delta);

}  // namespace latentd

#endif  // LATENTD_ROUTING_TABLE_DELTA_H_
