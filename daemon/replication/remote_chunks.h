// Other nodes' chunks, by a PeerThread's client. The thread's, as all that copies.
#ifndef LATENTD_DAEMON_REPLICATION_REMOTE_CHUNKS_H_
#define LATENTD_DAEMON_REPLICATION_REMOTE_CHUNKS_H_

#include <memory>
#include <vector>

#include "absl/time/time.h"
#include "daemon/replication/copy_source.h"
#include "daemon/replication/peer_thread.h"

namespace latentd {

class RemoteChunks final : public PeerChunks {
 public:
  // `patience`: for one answer.
  RemoteChunks(PeerThread* thread, absl::Duration patience)
      : thread_(thread), patience_(patience) {}

  // Slots are asked for all at once: they are many more than have chunks.
  void List(const NodeId& node, std::vector<SlotClaim> slots, ListDone done) override;
  void Fetch(const NodeId& node, const ChunkRange& range, FetchDone done) override;
  void Doubt(const NodeId& node, const ChunkId& chunk) override;

 private:
  struct Listing;

  void ListPage(std::shared_ptr<Listing> listing, SlotClaim slot, const ChunkId& after);
  uint64_t DeadlineNs() const;

  PeerThread* const thread_;
  const absl::Duration patience_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_REPLICATION_REMOTE_CHUNKS_H_
