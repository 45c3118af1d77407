// `Dispatcher` carries operations through: it places their items by the routing table, asks for
// sessions that are missing, sends, decides about retries, and ends every operation by its
// deadline. Data thread only.
//
// Work waits (is parked) for a session, a newer table or a moment; everything that the control
// thread tells wakes all of it up to be placed anew.
#ifndef LATENTD_CLIENT_DISPATCHER_H_
#define LATENTD_CLIENT_DISPATCHER_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "client/clock.h"
#include "client/control.h"
#include "client/data_path.h"
#include "client/deadlines.h"
#include "client/handover.h"
#include "client/operation.h"
#include "client/retry.h"
#include "routing/routing_table.h"

namespace latentd {

class Dispatcher {
 public:
  // All must outlive this. `layout`: sessions on daemons of another layout count as failed.
  Dispatcher(DataPath* path, ControlPlane* control, Handover* handover, LayoutHash layout);

  // Starts an operation; its Finish runs inside a later Progress, or Shutdown.
  uint64_t Start(std::unique_ptr<Operation> operation, uint64_t deadline_ns);
  // Ends it with `status` unless it has ended.
  void End(uint64_t id, absl::Status status);
  // Ends everything.
  void EndAll(const absl::Status& status);

  // Returns whether anything happened.
  bool Progress();
  bool has_work() const { return !ready_.empty() || path_->has_work() || handover_->has_events(); }
  uint64_t next_timer_ns() const;
  size_t in_flight() const { return entries_.size(); }

  const std::shared_ptr<const RoutingTable>& table() const { return table_; }
  uint64_t table_conflicts() const { return table_conflicts_; }

 private:
  // Items of one operation that travel together.
  struct Work {
    uint64_t operation = 0;
    Items items;
    Attempts attempts;
    absl::InlinedVector<NodeId, 1> excluded;  // holders that failed it
    absl::Status first_holder_said;           // once another is asked in its place
    Epoch min_epoch{};
    NodeId asked;  // a holder whose table is to be known first
    uint64_t not_before_ns = 0;
    uint64_t reuse_id = 0;
    uint32_t tag = 0;  // of the message it became
    NodeId sent_to;
  };
  struct Entry {
    std::unique_ptr<Operation> operation;
    uint64_t deadline_ns = kNever;
    uint64_t started_ns = 0;
    absl::InlinedVector<uint64_t, 4> exchanges;
    uint32_t parked = 0;
    std::optional<absl::Status> ended;
    bool ready = false;
  };
  struct SessionFailure {
    absl::Status status;
    uint64_t until_ns = 0;
  };

  Entry* FindLive(uint64_t operation);
  // The holder that the item should go to; none when all are excluded.
  std::optional<NodeId> Choose(const Operation& operation, uint32_t item, const Work& work) const;
  void Launch(Work work);
  void LaunchAt(Entry& entry, const NodeId& node, Work work);
  void SendTo(Entry& entry, const SessionInfo& session, uint32_t lane, Work work);
  void CallBackLost(Slot slot, const NodeId& chosen);
  void AskForSession(const NodeId& node);
  void Park(Entry& entry, Work work);
  void WakeParked();

  void OnResult(ExchangeResult result);
  void OnFailure(Entry& entry, Work work, const NodeId& node, const absl::Status& status,
                 const ExchangeResult* result);
  void OnEvent(ControlEvent event);
  void On(const TableChanged& event) { table_ = event.table; }
  void On(const TableConflict&) { ++table_conflicts_; }
  void On(const HolderAsked& event) { asking_.erase(event.node); }
  void On(const SessionOpened& event);
  void On(const SessionFailed& event);
  void On(const SessionLost& event);

  void EndEntry(uint64_t id, Entry& entry, absl::Status status);
  void Settle(uint64_t id, Entry& entry);
  void FinishReady();
  absl::Status DeadlineStatus(const Entry& entry) const;

  DataPath* const path_;
  ControlPlane* const control_;
  Handover* const handover_;
  const LayoutHash layout_;

  std::shared_ptr<const RoutingTable> table_;
  absl::flat_hash_map<uint64_t, std::unique_ptr<Entry>> entries_;
  absl::flat_hash_map<uint64_t, Work> exchanges_;  // what each exchange stands for
  std::vector<Work> parked_;
  uint64_t wake_ns_ = kNever;  // of parked work that waits for a moment
  Deadlines deadlines_;
  std::vector<uint64_t> ready_;  // operations that have only to be finished

  absl::flat_hash_set<NodeId> asking_;  // for their tables
  uint64_t table_conflicts_ = 0;
  absl::flat_hash_set<NodeId> opening_;
  absl::flat_hash_set<NodeId> refused_;  // daemons that do not know the session in doubt
  std::map<NodeId, SessionFailure> failures_;

  uint64_t next_id_ = 1;
  uint64_t now_ns_ = 0;
  // Kept for their capacity.
  std::vector<ExchangeResult> results_;
  std::vector<ControlEvent> events_;
  std::vector<uint64_t> due_;
};

}  // namespace latentd

#endif  // LATENTD_CLIENT_DISPATCHER_H_
