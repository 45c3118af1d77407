// The lane's inside. One class, one file for each kind of event:
//     lane.cc             what other threads call
//     lane_loop.cc        the thread's loop, stopping, housekeeping
//     lane_sessions.cc    sessions begin, bind and end
//     lane_liveness.cc    peers that fall silent
//     lane_requests.cc    messages come in: parse, check, admit, receive, dispatch
//     lane_attend.cc      ATTEND
//     lane_publish.cc     PUBLISH, SEAL, FETCH
//     lane_replicas.cc    what a primary passes on; LIST and DROP
//     lane_slots.cc       tables come, slots go
//     lane_local.cc       what is copied from other nodes
//     lane_scrub.cc       sealed chunks are read again
//     lane_trials.cc      the lane times its own device
//     lane_leases.cc      PIN, RELEASE, STAT, ECHO
//     lane_replies.cc     answers go out
// Everything private belongs to the lane's thread once it runs.
#ifndef LATENTD_DAEMON_LANE_LANE_IMPL_H_
#define LATENTD_DAEMON_LANE_LANE_IMPL_H_

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/container/btree_map.h"
#include "absl/container/flat_hash_map.h"
#include "daemon/engine/admission.h"
#include "daemon/engine/engine.h"
#include "daemon/lane/idle_waiter.h"
#include "daemon/lane/lane.h"
#include "daemon/lane/lane_request.h"
#include "daemon/lane/lane_session.h"
#include "daemon/lane/log_gate.h"
#include "daemon/lane/mailbox.h"
#include "daemon/lane/replica_sink.h"
#include "daemon/lane/slot_ownership.h"
#include "daemon/lane/trial_scratch.h"
#include "daemon/store/latent_store.h"
#include "kernels/rope.h"
#include "transport/payload_pool.h"
#include "transport/wire_build.h"
#include "transport/wire_parse.h"

namespace latentd {

// The rows of the request, each times the tokens of the chunks that its group names; what is causal
// counts like what is not. The largest number when there is none for it.
uint64_t AttendWork(const AttendRequest& attend);

class LaneImpl : public Lane {
 public:
  struct Parts {
    std::shared_ptr<Context> context;
    std::shared_ptr<Mailbox> mailbox;
    std::unique_ptr<Worker> worker;
    std::unique_ptr<IdleWaiter> waiter;
    std::unique_ptr<LatentStore> store;
    std::vector<std::shared_ptr<void>> registrations;  // with UCX
    std::unique_ptr<Engine> engine;
    PayloadMemory payloads;
    bool rows_in_payloads = false;
    std::optional<PayloadMemory> device_payloads;
    std::function<void()> enter_thread;
  };

  LaneImpl(LaneOptions options, Parts parts);
  ~LaneImpl() override;

  void SetSessionLostCallback(std::function<void(SessionToken, absl::Status)> callback) override;
  void SetDeviceLostCallback(std::function<void(absl::Status)> callback) override;
  void Start() override;
  absl::Status Stop(absl::Time deadline) override;
  const std::string& worker_address() const override { return address_; }
  const LaneOptions& options() const override { return options_; }
  std::string DescribeBackend() const override { return backend_; }
  std::string Transports() const override;
  void AddSession(SessionGrant grant, std::function<void()> done) override;
  void RemoveSession(SessionToken token, std::string reason) override;
  void SetTable(std::shared_ptr<const RoutingTable> table) override;
  void SetAdmitting(bool admitting) override;
  void ListChunks(std::string hex_prefix, uint32_t limit,
                  std::function<void(ChunkListing)> done) override;
  void PublishLocal(LocalRecords records, Done done) override;
  void SealLocal(ChunkId chunk, uint32_t tokens, uint64_t checksum, Epoch placed,
                 Done done) override;
  void DropLocal(ChunkId chunk, Epoch placed, Done done) override;
  void DiscardLocal(ChunkId chunk, Epoch placed, Done done) override;
  void MarkLostLocal(ChunkId chunk, uint32_t tokens, uint64_t checksum, Epoch placed,
                     Done done) override;
  void ListSlot(Slot slot, ChunkId after, uint32_t limit,
                std::function<void(ChunkListing)> done) override;
  void StatLocal(std::vector<ChunkId> chunks,
                 std::function<void(std::vector<std::optional<ChunkInfo>>)> done) override;
  void TimeBatches(const BatchTrial& trial, TrialDone done) override;
  void EndTrials(std::function<void()> done) override;
  const LaneStats& stats() const override { return stats_; }
  absl::Time last_turn() const override;

 private:
  using SessionPtr = std::shared_ptr<LaneSession>;
  // A payload that has been answered, while other nodes are being given it.
  struct KeptPayload {
    IncomingMessage message;
    PayloadBuffer received;
    uint64_t bytes = 0;
  };
  struct LeavingSlot {
    absl::Time due;
    Generation generation{};  // that it had here
  };
  struct Trial {
    BatchTrial what;
    TrialDone done;
    absl::Time began;
    uint32_t depth = 1;  // batches in flight
    bool reserved = false;
    bool ready = false;                                   // its records are written
    absl::flat_hash_map<uint64_t, absl::Time> in_flight;  // job -> when it began
    uint32_t launched = 0;
    uint32_t finished = 0;
    BatchTimes times;
    absl::Status status;
  };
  // Says how many bytes of records it went through; `alive` is an error once the lane is stopping.
  using LocalWork = std::function<uint64_t(const absl::Status& alive)>;

  // lane_loop.cc
  void Run();
  bool Turn(absl::Time now);
  bool DrainDue(absl::Time now) const;
  void CutOff();
  void Farewell();
  void TearDown();
  void Housekeep(absl::Time now);
  absl::Time NextWake(absl::Time now) const;
  void UpdateGauges();

  // lane_sessions.cc
  void Add(SessionGrant grant);
  void OnHello(IncomingMessage message, const ParsedRequest& request, absl::Time now);
  absl::Status Bind(const SessionPtr& session, uint64_t sender, absl::Time now);
  // Closes its connection and drops what came by it; says how many requests. The session goes on.
  size_t Unbind(const SessionPtr& session);
  void OnConnectionFailed(const SessionToken& token, const absl::Status& status);
  // It ends here; the process, which is told, logs it and ends it in the other lanes.
  void LoseSession(SessionPtr session, const absl::Status& status);
  // Says how many requests it had in flight.
  size_t EndSession(const SessionPtr& session);
  // The session that owns the token and speaks from this sender; null otherwise.
  SessionPtr FindSession(const wire::RequestHeader& header, uint64_t sender) const;

  // lane_liveness.cc
  LivenessOptions LivenessRules() const;
  void CheckPeers(absl::Time now);
  void CheckPeer(const SessionPtr& session, absl::Time now);
  void SendPing(const SessionPtr& session);
  void OnReply(IncomingMessage message);
  void Heard(LaneSession& session, absl::Time now);
  // Bytes went to the peer or came from it, which it does not do when it is frozen. Says nothing of
  // what it has read.
  void Moved(LaneSession& session);

  // lane_requests.cc
  // What to answer for what the store or the engine says. INTERNAL is the device's end: the lane
  // fails closed, and the requester is sent to another holder.
  absl::Status Judge(const absl::Status& status);
  void OnRequest(IncomingMessage message);
  void OnUnreadable(IncomingMessage message, const MessageOrigin& origin, const absl::Status& why,
                    absl::Time now);
  absl::Status Check(const ParsedRequest& request) const;
  absl::Status CheckState(const ParsedRequest& request) const;
  absl::Status CheckFence() const;
  absl::Status CheckTable(const ParsedRequest& request) const;
  absl::Status CheckSlots(const ParsedRequest& request) const;
  absl::Status CheckShifts(const ParsedRequest& request) const;
  absl::Status CheckSize(const ParsedRequest& request) const;
  void Accept(const SessionPtr& session, ParsedRequest parsed, IncomingMessage message,
              absl::Time now);
  void OnReceived(uint64_t serial, const absl::Status& status);
  void Dispatch(LaneRequest& request);

  // lane_attend.cc
  void Attend(LaneRequest& request);
  absl::Status PrepareAttend(LaneRequest& request, Problem& problem);
  absl::Status ResolveChunks(LaneRequest& request);
  absl::Status PlaceRows(LaneRequest& request);
  absl::Status CheckRows(const LaneRequest& request) const;
  absl::Status TurnRows(LaneRequest& request) const;
  void OnComputed(const EngineDone& done, absl::Time now);
  void Unpin(LaneRequest& request);

  // lane_publish.cc
  void Publish(LaneRequest& request);
  void Seal(LaneRequest& request);
  void Fetch(LaneRequest& request);
  absl::Status CheckPayload(const LaneRequest& request);

  // lane_replicas.cc
  // Answers a request that the store has taken, once the slot's other nodes have it too, or before.
  void Replicate(LaneRequest& request, ReplicaWrite write);
  // Fills in whom it is for; false if that is nobody.
  bool Address(ReplicaWrite& write) const;
  void Forward(ReplicaWrite write, uint64_t serial);
  void OnForwarded(uint64_t serial, const absl::Status& status);
  // Moves the payload out of a request, to where it stays until the sink is done with it.
  void KeepPayload(LaneRequest& request);
  void AwaitForwards();
  // Tells other nodes of open chunks that this primary has dropped.
  void TellDropped(const std::vector<ChunkId>& chunks);
  void Drop(LaneRequest& request);
  void List(LaneRequest& request);

  // lane_slots.cc
  void TakeTable(std::shared_ptr<const SlotOwnership> slots);
  // Whether who reads by a table that is older than the slot's placement is answered all the same.
  bool AnswersBehind(Slot slot, Epoch epoch) const;
  void DropLeaving(absl::Time now);
  void DropOrphans(absl::Time now);

  // lane_local.cc
  void PostLocal(LocalWork work);
  absl::Status CheckCopy(const ChunkId& chunk, Epoch placed) const;
  bool DoLocalWork();
  void FailLocalWork();

  // lane_scrub.cc
  void ScrubSoon(const IdEntries& ids, absl::Time now);
  void Scrub(absl::Time now);

  // lane_trials.cc
  // Now, or some moments ago.
  bool HasWorkForOthers(absl::Time now);
  void YieldTrial();
  void BeginTrial(const BatchTrial& trial, TrialDone done);
  bool TurnTrial(absl::Time now);
  absl::Status PrepareTrial(Trial& trial);
  bool LaunchTrial(Trial& trial);
  void InterruptTrial(Trial& trial);
  // Whether it was a trial's.
  bool OnTrialBatch(const EngineDone& done, absl::Time now);
  void EndTrial();
  void DropTrial();

  // lane_leases.cc
  void Pin(LaneRequest& request);
  void Release(LaneRequest& request);
  void Stat(LaneRequest& request);
  void Echo(LaneRequest& request);

  // lane_replies.cc
  wire::ReplyHeader ReplyTo(uint64_t request_id) const;
  // Answers an admitted request, with an error or without meta.
  void Finish(LaneRequest& request, const absl::Status& status);
  // Sends scratch_ and request.reply_payload; the request goes when they have left.
  void SendReply(LaneRequest& request, wire::Code code);
  // Answers what was not admitted.
  void SendNote(const SessionPtr& session, unsigned am_id, wire::Code code);
  void SendError(const SessionPtr& session, wire::Opcode opcode, uint64_t request_id,
                 const absl::Status& status);
  // Answers a sender that has no session, and hears no more of it.
  void Refuse(const IncomingMessage& message, wire::Opcode opcode, uint64_t request_id,
              const absl::Status& status, absl::Time now);
  void CountReply(wire::Code code);
  // For a payload of the request; memory of the device if the requester's is, and there is room.
  PayloadBuffer TakeBuffer(const LaneRequest& request, uint64_t bytes);
  // Ends a request: gives back its pins, buffers and admission.
  void Forget(LaneRequest& request);

  const LaneOptions options_;
  const std::string address_;
  const std::string backend_;
  const WireLimits wire_limits_;
  const absl::StatusOr<Rope> rope_;
  LaneStats stats_;

  const std::shared_ptr<Context> context_;
  const std::shared_ptr<Mailbox> mailbox_;  // also of callbacks that outlive the lane
  std::unique_ptr<LatentStore> store_;
  PayloadPool buffers_;
  const bool rows_in_buffers_;                 // the device wants rows there
  std::optional<PayloadPool> device_buffers_;  // for requesters with device memory
  const std::vector<std::shared_ptr<void>> registrations_;
  const std::function<void()> enter_thread_;
  std::unique_ptr<Worker> worker_;
  const std::unique_ptr<IdleWaiter> waiter_;
  std::unique_ptr<Engine> engine_;
  Admission admission_;

  std::shared_ptr<const SlotOwnership> slots_;  // null before the first table
  bool admitting_ = true;
  std::function<void(SessionToken, absl::Status)> on_session_lost_;
  absl::Status device_status_;  // what everybody is told once the device has failed
  std::function<void(absl::Status)> on_device_lost_;

  absl::flat_hash_map<SessionToken, SessionPtr> sessions_;
  // Bound ones; of several that speak from one sender, the one bound last.
  absl::flat_hash_map<uint64_t, SessionPtr> by_sender_;
  absl::flat_hash_map<uint64_t, std::unique_ptr<LaneRequest>> requests_;
  std::vector<std::unique_ptr<LaneRequest>> spare_requests_;
  uint64_t next_key_ = 1;
  uint64_t next_serial_ = 1;
  uint32_t unsent_notes_ = 0;

  uint32_t forwards_ = 0;  // that the sink has
  uint64_t kept_bytes_ = 0;
  absl::flat_hash_map<uint64_t, KeptPayload> kept_;  // by the request's serial
  absl::btree_map<Slot, LeavingSlot> leaving_;
  std::vector<Epoch> generation_since_;  // [kSlotCount]: no later than that, as far as tables came
  absl::Time next_orphans_ = absl::InfinitePast();
  std::deque<LocalWork> local_work_;
  absl::Time next_scrub_ = absl::InfinitePast();
  uint64_t scrub_pass_bytes_ = 0;                 // read by the pass that goes on
  absl::Time scrub_pass_ = absl::InfinitePast();  // when this pass began

  std::unique_ptr<TrialScratch> trial_scratch_;
  std::unique_ptr<Trial> trial_;
  uint64_t next_trial_job_ = 0;
  uint64_t seen_serial_ = 1;  // requests from here on came after the last look
  absl::Time last_request_ = absl::InfinitePast();  // when a look found any
  uint64_t trial_batches_ = 0;                      // that the engine was given

  MessageBytes scratch_;  // the message being built
  std::vector<EngineDone> done_;
  LogGate log_gate_;
  absl::Time next_housekeeping_ = absl::InfinitePast();
  absl::Time last_housekeeping_ = absl::InfinitePast();

  // Stopping.
  bool stopping_ = false;
  absl::Time stop_at_ = absl::InfiniteFuture();
  absl::Status stop_status_;

  std::thread thread_;
  std::mutex stop_mutex_;  // Stop may be called twice
  static constexpr int64_t kStopped = std::numeric_limits<int64_t>::max();
  std::atomic<int64_t> last_turn_ns_{0};  // kStopped: there will be no other
  mutable std::mutex transports_mutex_;
  std::string transports_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_LANE_LANE_IMPL_H_
