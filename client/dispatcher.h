// `Dispatcher` carries operations through: it places their items by the routing table, asks for
// sessions that are missing, sends, decides about retries and hedges, and ends every operation by
// its deadline. Data thread only.
//
// Work waits (is parked) for a session, a newer table or a moment; everything that the control
// thread tells wakes all of it up to be placed anew.
//
//     dispatcher.cc            operations begin, turn and end
//     dispatcher_placement.cc  which holder is asked
//     dispatcher_sending.cc    sessions, lanes, messages
//     dispatcher_answers.cc    what came of it, and what the control thread tells
//     dispatcher_contests.cc   attempts that take too long, and those that run beside them
#ifndef LATENTD_CLIENT_DISPATCHER_H_
#define LATENTD_CLIENT_DISPATCHER_H_

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "client/circuit_breaker.h"
#include "client/clock.h"
#include "client/control.h"
#include "client/data_path.h"
#include "client/deadlines.h"
#include "client/handover.h"
#include "client/hedging.h"
#include "client/node_records.h"
#include "client/operation.h"
#include "client/race.h"
#include "client/retry.h"
#include "routing/routing_table.h"

namespace latentd {

struct DispatcherOptions {
  LayoutHash layout{};              // sessions on daemons of another one count as failed
  uint64_t attempt_timeout_ns = 0;  // 0: as AttemptLimitNs has it
  HedgeOptions hedge;
  CircuitBreakerOptions breaker;
  uint64_t seed = 1;
};

struct DispatcherCounters {
  uint64_t table_conflicts = 0;
  uint64_t attempts_timed_out = 0;
  uint64_t hedges_sent = 0;
  uint64_t hedges_won = 0;
  uint64_t breakers_opened = 0;
};

class Dispatcher {
 public:
  // All must outlive this.
  Dispatcher(DataPath* path, ControlPlane* control, Handover* handover, DispatcherOptions options);

  // Starts an operation; its Finish runs inside a later Progress, or Shutdown.
  uint64_t Start(std::unique_ptr<Operation> operation, uint64_t deadline_ns);
  // Ends it with `status` unless it has ended.
  void End(uint64_t id, absl::Status status);
  // Ends everything.
  void EndAll(const absl::Status& status);

  // Returns whether anything happened.
  bool Progress();
  bool has_work() const {
    return !ready_.empty() || !unready_.empty() || !working_.empty() || path_->has_work() ||
           handover_->has_events();
  }
  uint64_t next_timer_ns() const;
  size_t in_flight() const { return entries_.size(); }

  const std::shared_ptr<const RoutingTable>& table() const { return table_; }
  const DispatcherCounters& counters() const { return counters_; }
  // Of nodes that are in the table, or have requests under way.
  std::vector<NodeHealth> Health();

 private:
  struct Answer {
    Items items;
    uint32_t tag = 0;
    bool retried = false;
    ExchangeResult result;
  };
  // Two attempts at the same work. Answers are kept until a side has all of its own.
  struct Contest {
    Race race;
    bool hedge = false;
    Items items;  // of the work as it was when the second attempt began
    std::array<std::vector<Answer>, 2> answers;
    std::array<absl::Status, 2> said;  // by who failed it
  };
  // Items of one operation that travel together.
  struct Work {
    uint64_t operation = 0;
    Items items;
    Attempts attempts;
    absl::InlinedVector<NodeId, 1> excluded;  // holders that failed it
    Epoch excluded_by{};                      // of the table then
    absl::Status first_holder_said;           // once another is asked in its place
    Epoch min_epoch{};
    NodeId asked;         // a holder whose table is to be known first
    NodeId at;            // of what goes to every holder: this one
    NodeId lost_primary;  // what it waits for is another in its place
    uint64_t not_before_ns = 0;
    // Until when it waits for a session though another holder could be asked; 0: it has not waited.
    uint64_t patience_ns = 0;
    uint64_t request_id = 0;           // of an earlier attempt
    uint32_t tag = 0;                  // of the message it became
    std::shared_ptr<Contest> contest;  // null but for few
    Race::Side side = Race::kFirst;
  };
  // What an exchange stands for. Its operation is 0 once nobody waits for the answer any more.
  struct Request {
    Work work;
    NodeRecord* record = nullptr;
    uint32_t lane = 0;
    uint64_t sent_ns = 0;
    uint64_t give_up_ns = kNever;  // when the attempt has taken too long
    uint64_t timer_ns = kNever;    // its entry in timers_
    bool probe = false;            // of its node's breaker
  };
  struct Entry {
    uint64_t id = 0;
    std::unique_ptr<Operation> operation;
    uint64_t deadline_ns = kNever;
    uint64_t started_ns = 0;
    absl::InlinedVector<uint64_t, 4> exchanges;
    uint32_t parked = 0;
    std::optional<absl::Status> ended;
    bool ready = false;
    bool working = false;  // it has yet to do something here
    // Of what goes to every holder: those that an item was given to.
    std::map<uint32_t, absl::InlinedVector<NodeId, 2>> given_to;
  };
  struct SessionFailure {
    absl::Status status;
    uint64_t until_ns = 0;
  };
  // Items for one node.
  struct Part {
    const NodeId* node = nullptr;  // of the table, or of the operation
    Items items;
    bool others = false;  // each item has another holder that might be, or is asked
  };
  using Parts = absl::InlinedVector<Part, 4>;
  // What was chosen for one set of holders.
  struct Choice {
    std::span<const NodeIndex> holders;
    NodeIndex node = 0;
    bool others = false;
  };

  Entry* FindLive(uint64_t operation);
  static bool IsWanted(const Work& work) {
    return work.contest == nullptr || work.contest->race.Runs(work.side);
  }
  static bool IsExcluded(const Work& work, const NodeId& node);
  uint64_t AttemptLimit(const Entry& entry) const;

  // --- Placement
  // False when no holder is left for some item.
  bool Place(Entry& entry, const Work& work, Parts* parts);
  bool PlaceReads(const Operation& operation, const Work& work, Parts* parts);
  void PlaceEverywhere(Entry& entry, const Work& work, Parts* parts);
  std::optional<Choice> ChooseReader(std::span<const NodeIndex> holders, Slot slot,
                                     const Work& work);
  static void Add(const NodeId& node, uint32_t item, bool others, Parts* parts);
  // Some holder is not excluded. `ready`: one that is well and has a session.
  bool HasHolder(const Operation& operation, uint32_t item, const Work& work, bool ready) const;
  bool HasHolders(const Operation& operation, const Work& work, bool ready) const;
  // `node` is primary of some item.
  bool HasPrimary(const Entry& entry, const Work& work, const NodeId& node) const;
  // Nothing speaks against asking it.
  bool IsWell(const NodeInfo& node) const;
  const absl::Status* FailedLately(const NodeId& node) const;
  void CallBackLost(std::span<const NodeIndex> holders, NodeIndex chosen);

  // --- Sending
  // False: the operation has to be asked again.
  bool LaunchIfReady(Entry& entry);
  // Returns whether anything happened.
  bool LaunchUnready();
  // What operations have to do here. Returns whether there was any.
  bool WorkHere();
  void Launch(Work work);
  void LaunchAt(Entry& entry, const NodeId& node, bool others, Work work);
  void SendTo(Entry& entry, const SessionInfo& session, uint32_t lane, bool others, Work work);
  void Arm(Request& request, uint64_t id, const Entry& entry, bool hedge);
  // The payload lies in memory of ours from now on, if there is some.
  void CopyPayload(Outgoing& out);
  // False: nobody knows the node.
  bool AskForSession(const NodeId& node);
  void Park(Entry& entry, Work work);
  void WakeParked();

  // --- Answers
  void OnResult(ExchangeResult result);
  void Account(const Request& request, const ExchangeResult& result);
  // No answer came from a node, or none in time. `sent_ns`: of what it was asked.
  void CountFailure(NodeRecord& record, uint64_t sent_ns);
  void TakeAnswer(Entry& entry, Work work, ExchangeResult result);
  void OnFailure(Entry& entry, Work work, const NodeId& node, const absl::Status& status,
                 const ExchangeResult* result);
  // The work has failed for good.
  void GiveUp(Entry& entry, const Work& work, absl::Status status);
  void OnEvent(ControlEvent event);
  void On(const TableChanged& event);
  void On(const TableConflict&) { ++counters_.table_conflicts; }
  void On(const HolderAsked& event) { asking_.erase(event.node); }
  void On(const SessionOpened& event);
  void On(const SessionFailed& event);
  void On(const SessionLost& event);

  // --- Contests
  void OnTimer(uint64_t exchange);
  void StartSecond(uint64_t exchange, Request& request, bool hedge);
  // Of what goes to every holder: the others will do.
  void DoWithout(uint64_t exchange, Request& request);
  void Win(Entry& entry, Contest& contest, Race::Side side);
  // Nobody waits for it any more. False: the call does, for the caller's memory.
  bool LetGo(Entry& entry, uint64_t exchange, Request& request);
  // Lets go of all that is under way of a side.
  void DropSide(Entry& entry, const Contest& contest, Race::Side side);

  void EndEntry(uint64_t id, Entry& entry, absl::Status status);
  void Settle(uint64_t id, Entry& entry);
  void FinishReady();
  absl::Status DeadlineStatus(const Entry& entry) const;

  DataPath* const path_;
  ControlPlane* const control_;
  Handover* const handover_;
  const DispatcherOptions options_;

  std::shared_ptr<const RoutingTable> table_;
  absl::flat_hash_map<uint64_t, std::unique_ptr<Entry>> entries_;
  absl::flat_hash_map<uint64_t, Request> exchanges_;
  std::vector<Work> parked_;
  uint64_t wake_ns_ = kNever;      // of parked work that waits for a moment
  Deadlines deadlines_;            // of operations
  Deadlines timers_;               // of exchanges
  std::vector<uint64_t> ready_;    // operations that have only to be finished
  std::vector<uint64_t> unready_;  // operations that have yet to begin
  std::vector<uint64_t> working_;  // operations that do something here

  NodeRecords records_;
  HedgeBudget hedge_budget_;
  std::mt19937_64 random_;
  absl::flat_hash_set<NodeId> asking_;  // for their tables
  absl::flat_hash_set<NodeId> opening_;
  absl::flat_hash_set<NodeId> refused_;  // daemons that do not know the session in doubt
  std::map<NodeId, SessionFailure> failures_;
  DispatcherCounters counters_;

  uint64_t next_id_ = 1;
  uint64_t now_ns_ = 0;
  // Kept for their capacity.
  std::vector<ExchangeResult> results_;
  std::vector<ControlEvent> events_;
  std::vector<uint64_t> due_;
};

}  // namespace latentd

#endif  // LATENTD_CLIENT_DISPATCHER_H_
