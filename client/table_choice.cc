#include "client/table_choice.h"

namespace latentd {

TableChoice ChooseTable(const RoutingTable* ours, const RoutingTable& offered, TableSource source) {
  if (ours == nullptr || offered.epoch() > ours->epoch()) return {.take = true};
  if (offered.epoch() < ours->epoch() || SamePlacement(*ours, offered)) return {};
  return {.take = source != TableSource::kAnybody, .conflict = true};
}

}  // namespace latentd
