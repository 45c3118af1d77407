// `DataPath` moves requests to lanes and their answers back: connections and their liveness, HELLO,
// the session's limits, matching answers, receiving payloads. It knows nothing of tables, holders,
// retries or deadlines of calls; see dispatcher.h.
//
// Every Submit gives exactly one result, out of a later Progress. By then nothing reads the
// caller's memory any more. Data thread only; nothing here blocks.
#ifndef LATENTD_CLIENT_DATA_PATH_H_
#define LATENTD_CLIENT_DATA_PATH_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "client/exchange.h"
#include "client/exchange_table.h"
#include "client/lane_link.h"
#include "client/session_info.h"
#include "routing/ids.h"
#include "transport/payload_pool.h"
#include "transport/wire_parse.h"
#include "transport/worker.h"

namespace latentd {

struct DataPathOptions {
  LivenessOptions liveness;
  WireLimits wire;              // for reading answers
  uint32_t max_waiting = 4096;  // requests that wait for their turn at one lane
  // For answers to Outgoing::on_device; outlives the worker. Null without a device.
  PayloadPool* device_pool = nullptr;
};

struct DataPathCounters {
  uint64_t late_answers = 0;  // nobody waited for them any more
  uint64_t links_failed = 0;
  uint64_t pings_sent = 0;
  uint64_t pings_answered = 0;
};

class DataPath {
 public:
  // `worker` must outlive this.
  DataPath(Worker* worker, DataPathOptions options);
  // Fails what is left and lets go of the callers' memory; results are lost.
  ~DataPath();
  DataPath(const DataPath&) = delete;
  DataPath& operator=(const DataPath&) = delete;

  // --- Sessions
  // A new session, or (the same token) a known one that is alive after all.
  void SetSession(const SessionInfo& session);
  // Requests to the node fail until there is a new session.
  void DropSession(const NodeId& node, const absl::Status& why);
  // Null while there is none, or its connection broke and nobody has asked since.
  const SessionInfo* FindSession(const NodeId& node) const;
  // It was lost, and nothing has been heard from it since: ask others if there are any.
  bool InDoubt(const NodeId& node) const;
  // The token of the session that is in doubt, if there is one.
  std::optional<TokenBits> DoubtedToken(const NodeId& node) const;
  // REQUIRES: a session.
  uint32_t LaneOf(const NodeId& node, Slot slot);
  // "tcp/lo" once connected, for reports.
  std::string TransportsTo(const NodeId& node, uint32_t lane) const;

  // --- Requests
  // REQUIRES: FindSession(node). `request_id`, if not 0, is that of earlier attempts; one on another
  // lane may still be under way. (One on the same lane as well, but then this one gets a new id.)
  uint64_t Submit(const NodeId& node, uint32_t lane, Outgoing out, Epoch epoch,
                  uint64_t deadline_ns, uint64_t request_id = 0);
  // As the wire has it; 0 of one that has had its result.
  uint64_t RequestIdOf(uint64_t id) const;
  // Gives the request's result, CANCELLED, as soon as nothing reads the caller's memory.
  void Abandon(uint64_t id);
  // Nobody waits for the result any more. True: from now on nothing reads the caller's memory. What
  // has gone out still occupies the session's window until its result comes, as it does at the
  // holder. False: it was abandoned, and its result says when the memory is free.
  bool LetGo(uint64_t id);

  // --- Turning
  // Appends results. Returns whether anything happened.
  bool Progress(uint64_t now_ns, std::vector<ExchangeResult>* results);
  // Something is to be done at once, without waiting for the worker.
  bool has_work() const { return !results_.empty() || !closing_.empty(); }
  // When Progress must run though nothing arrives; kNever if there is no such time.
  uint64_t next_timer_ns() const;
  size_t in_flight() const { return exchanges_.size(); }

  PayloadPool& pool() { return *pool_; }
  size_t max_header_bytes() const { return worker_->max_header_bytes(); }
  const DataPathCounters& counters() const { return counters_; }

 private:
  struct Node {
    SessionInfo session;
    bool in_doubt = false;
    std::vector<std::shared_ptr<LaneLink>> links;  // one for each lane
    std::vector<uint64_t> lane_weights;
    std::vector<uint16_t> lane_of_slot;  // remembered; empty with one lane
  };

  void Greet(const std::shared_ptr<LaneLink>& link);
  void Greeted(LaneLink& link, const ExchangeResult& result);
  void SendInternal(const std::shared_ptr<LaneLink>& link, wire::Opcode opcode);
  void Pump(LaneLink& link);
  void Send(Exchange& exchange);
  void Sent(uint64_t id, const absl::Status& status);

  void OnReply(IncomingMessage message);
  void OnRequest(const IncomingMessage& message);
  // Checks an OK reply against what was asked.
  absl::Status CheckReply(const Exchange& exchange, const ParsedReply& reply) const;
  void TakePayload(Exchange& exchange, ExchangeResult result, IncomingMessage message);
  void Complete(Exchange& exchange, ExchangeResult result);
  void Fail(Exchange& exchange, absl::Status status);
  // Hands out what there is to report of an exchange that was moved on.
  void Report(ExchangeTable::Moved moved, const std::shared_ptr<LaneLink>& link);
  void FailLink(LaneLink& link, const absl::Status& status);
  void CheckLiveness(uint64_t now_ns);

  LaneLink* FindBySender(uint64_t sender);
  // The attempt at a request that waits for an answer of this sender; null if there is none.
  Exchange* FindAttempt(uint64_t request_id, uint64_t sender) const;

  Worker* const worker_;
  const DataPathOptions options_;
  const WireLimits own_wire_;  // for reading our own requests: any that we sent
  // Shared with payloads that are still coming in when this goes.
  const std::shared_ptr<PayloadPool> pool_ = std::make_shared<PayloadPool>();
  std::map<NodeId, Node> nodes_;
  ExchangeTable exchanges_;
  std::vector<std::unique_ptr<Endpoint>> closing_;  // destroyed outside UCX's callbacks
  std::vector<ExchangeResult> results_;
  std::vector<std::shared_ptr<LaneLink>> to_pump_;
  uint64_t now_ns_ = 0;
  uint64_t next_tick_ns_ = 0;  // of some link's liveness, or earlier
  DataPathCounters counters_;
  // Callbacks that the worker runs after this is gone find it expired.
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);
};

}  // namespace latentd

#endif  // LATENTD_CLIENT_DATA_PATH_H_
