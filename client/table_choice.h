// Which table to go by when another is offered. Epochs order tables; two that share one say nothing
// about which is newer. That happens where tables come from files: daemons that were restarted with
// another list of nodes and the same epoch, or whose files differ.
//
//     offered                            from a new session,  from anybody
//                                        or a refusal
//     newer, or the first                take                 take
//     the same epoch, placing otherwise  take, conflict       conflict
//     the same, or older                 -                    -
//
// Who opens a session, or says that it does not hold what our table gives it, is right about
// itself. Pure; any thread.
#ifndef LATENTD_CLIENT_TABLE_CHOICE_H_
#define LATENTD_CLIENT_TABLE_CHOICE_H_

#include <cstdint>

#include "routing/routing_table.h"

namespace latentd {

enum class TableSource : uint8_t { kNewSession, kRefusal, kAnybody };

struct TableChoice {
  bool take = false;
  bool conflict = false;
};

// `ours` may be null.
TableChoice ChooseTable(const RoutingTable* ours, const RoutingTable& offered, TableSource source);

}  // namespace latentd

#endif  // LATENTD_CLIENT_TABLE_CHOICE_H_
