// What the control thread tells the data thread, and how it wakes it. The control thread may wait;
// the data thread never does: it looks at one flag, and when the queue happens to be held at that
// moment it looks again on its next turn.
#ifndef LATENTD_CLIENT_HANDOVER_H_
#define LATENTD_CLIENT_HANDOVER_H_

#include <atomic>
#include <memory>
#include <mutex>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "client/session_info.h"
#include "routing/routing_table.h"

namespace latentd {

// The table to go by from now on.
struct TableChanged {
  std::shared_ptr<const RoutingTable> table;
};
// Somebody goes by another table of the same epoch; see table_choice.h.
struct TableConflict {};
// A holder that refused was asked for its table. If there is another to go by, that came before.
struct HolderAsked {
  NodeId node;
};
// The node has a session: a new one, or the known one found to be alive (the same token).
struct SessionOpened {
  SessionInfo session;
};
// The node could not be asked, or refused.
struct SessionFailed {
  NodeId node;
  absl::Status status;
};
// A session ran out or the daemon no longer knows it.
struct SessionLost {
  NodeId node;
  TokenBits token;
};

using ControlEvent = std::variant<TableChanged, TableConflict, HolderAsked, SessionOpened,
                                  SessionFailed, SessionLost>;

class Handover {
 public:
  Handover();
  ~Handover();
  Handover(const Handover&) = delete;
  Handover& operator=(const Handover&) = delete;

  // Any thread.
  void Push(ControlEvent event);

  // Data thread. Moves what has come to the end of `events`; never blocks.
  void Take(std::vector<ControlEvent>* events);
  bool has_events() const { return has_events_.load(std::memory_order_acquire); }
  // Readable from a Push until ClearWake.
  int wake_fd() const { return wake_fd_; }
  void ClearWake();

 private:
  std::mutex mutex_;
  std::vector<ControlEvent> events_;
  std::atomic<bool> has_events_ = false;
  int wake_fd_ = -1;
};

}  // namespace latentd

#endif  // LATENTD_CLIENT_HANDOVER_H_
