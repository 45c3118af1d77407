// This node's chunks, in whichever lane a slot's are. Calls and answers on the PeerThread; the work
// is done by the lanes.
#ifndef LATENTD_DAEMON_REPLICATION_LANE_CHUNKS_H_
#define LATENTD_DAEMON_REPLICATION_LANE_CHUNKS_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "daemon/lane/lane.h"
#include "daemon/replication/copy_source.h"
#include "daemon/replication/peer_thread.h"

namespace latentd {

class LaneChunks final : public LocalChunks {
 public:
  // All of the node's lanes, in order. Both must outlive this.
  LaneChunks(PeerThread* thread, std::vector<Lane*> lanes);

  void List(std::vector<Slot> slots, ListDone done) override;
  void Publish(const ChunkRange& range, Epoch placed, CopiedRecords records, Done done) override;
  void Seal(const ChunkId& chunk, uint32_t tokens, uint64_t checksum, Epoch placed,
            Done done) override;
  void Drop(const ChunkId& chunk, Epoch placed, Done done) override;
  void Discard(const ChunkId& chunk, Epoch placed, Done done) override;
  void MarkLost(const ChunkId& chunk, uint32_t tokens, uint64_t checksum, Epoch placed,
                Done done) override;

 private:
  struct Listing;

  void ListPage(const std::shared_ptr<Listing>& listing, Slot slot, const ChunkId& after);
  Lane& LaneOf(Slot slot) const;
  // Runs `done` on the thread, from wherever it is called.
  std::function<void(absl::Status)> OnThread(Done done) const;

  PeerThread* const thread_;
  const std::vector<Lane*> lanes_;
  std::vector<uint64_t> weights_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_REPLICATION_LANE_CHUNKS_H_
