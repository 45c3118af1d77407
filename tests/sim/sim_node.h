// `SimNode` is one life of one node: the real ClusterNode and the real SlotSync, and a model of what
// a lane does with requests. Its memory goes with it.
//
// One thread.
#ifndef LATENTD_TESTS_SIM_SIM_NODE_H_
#define LATENTD_TESTS_SIM_SIM_NODE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "daemon/membership/cluster_node.h"
#include "daemon/membership/serving_fence.h"
#include "daemon/replication/slot_sync.h"
#include "tests/sim/sim_etcd.h"
#include "tests/sim/sim_loop.h"
#include "tests/sim/sim_protocol.h"

namespace latentd::sim {

class SimWorld;

struct SimNodeOptions {
  int index = 0;
  Generation generation{};
  absl::Duration ttl;
  uint32_t replicas = 2;
  uint64_t seed = 0;
  double clock_rate = 1;
  NodeState state = NodeState::kActive;
  bool acks_all = true;  // false: what it takes as a primary is acknowledged at once
};

std::string NameOf(int index);

class SimNode : public PeerChunks, public LocalChunks {
 public:
  SimNode(SimWorld* world, const SimEtcdLink* link, SimNodeOptions options);

  void Handle(const Request& request, ReplyDone reply);

  struct Chunk {
    uint8_t mask = 0;
    bool sealed = false;
    uint64_t content = 0;
  };
  const std::map<ChunkId, Chunk>& chunks() const { return chunks_; }
  const SimNodeOptions& options() const { return options_; }
  Generation generation() const { return options_.generation; }
  SimClock& clock() { return clock_; }
  ClusterNode& member() { return *member_; }
  bool serves() const { return fence_.until() > clock_.now(); }
  TablePtr table() const { return table_; }
  SlotSyncProgress sync_progress() const { return sync_->progress(); }

 private:
  struct Write;  // of a primary, until every other node of the slot has it

  void TakeTable(const TablePtr& table);
  absl::Status Admit(const Request& request) const;
  bool AnswersBehind(const Request& request) const;
  void HandlePublishOrSeal(const Request& request, ReplyDone reply);
  Reply Attend(const Request& request);
  Reply Forwarded(const Request& request);
  Reply ListSlots(const Request& request) const;
  Reply FetchChunk(const Request& request) const;
  // FAILED_PRECONDITION: records are missing.
  absl::Status Apply(Request::Kind kind, const Request& request);
  void Forward(std::shared_ptr<Write> write, const NodeId& node);
  void Forwarded(std::shared_ptr<Write> write, const NodeId& node, const Reply& reply);
  void End(Write& write, absl::Status status);
  void ReportMissed(const Write& write);

  void List(const NodeId& node, std::vector<SlotClaim> slots, PeerChunks::ListDone done) override;
  void Fetch(const NodeId& node, const ChunkRange& range, FetchDone done) override;
  void Doubt(const NodeId&, const ChunkId&) override {}  // no memory is damaged here
  void List(std::vector<Slot> slots, LocalChunks::ListDone done) override;
  void Publish(const ChunkRange& range, Epoch placed, CopiedRecords records, Done done) override;
  void Seal(const ChunkId& chunk, uint32_t tokens, uint64_t checksum, Epoch placed,
            Done done) override;
  void Drop(const ChunkId& chunk, Epoch placed, Done done) override;
  void Discard(const ChunkId& chunk, Epoch placed, Done done) override;
  void MarkLost(const ChunkId& chunk, uint32_t tokens, uint64_t checksum, Epoch placed,
                Done done) override;
  absl::Status CheckPlaced(const ChunkId& chunk, Epoch placed) const;

  SimWorld* const world_;
  const SimNodeOptions options_;
  const NodeId id_;
  SimClock clock_;
  SimEtcdClient etcd_;
  ServingFence fence_;
  TablePtr table_;
  std::map<ChunkId, Chunk> chunks_;
  std::map<Slot, Generation> slot_generation_;
  std::unique_ptr<SlotSync> sync_;
  std::unique_ptr<ClusterNode> member_;
};

}  // namespace latentd::sim

#endif  // LATENTD_TESTS_SIM_SIM_NODE_H_
