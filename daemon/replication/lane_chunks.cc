#include "daemon/replication/lane_chunks.h"

#include <utility>

#include "routing/chunk_id.h"
#include "routing/lane_choice.h"

namespace latentd {
namespace {

// Of one turn of a lane.
constexpr uint32_t kPageChunks = 256;

}  // namespace

// The answers for many slots. The thread's alone.
struct LaneChunks::Listing {
  ListDone done;
  size_t slots_left = 0;
  std::vector<ChunkState> chunks;
};

LaneChunks::LaneChunks(PeerThread* thread, std::vector<Lane*> lanes)
    : thread_(thread), lanes_(std::move(lanes)) {
  for (const Lane* lane : lanes_) weights_.push_back(lane->options().cache_bytes);
}

Lane& LaneChunks::LaneOf(Slot slot) const {
  return lanes_.size() == 1 ? *lanes_.front() : *lanes_[LaneOfSlot(slot, weights_)];
}

std::function<void(absl::Status)> LaneChunks::OnThread(Done done) const {
  // Moved on, not shared: what it holds is the thread's to let go of.
  return [thread = thread_, held = std::make_shared<Done>(std::move(done))](absl::Status status) {
    thread->Post([done = std::move(*held), status = std::move(status)] { done(status); });
  };
}

void LaneChunks::List(std::vector<Slot> slots, ListDone done) {
  auto listing = std::make_shared<Listing>();
  listing->done = std::move(done);
  listing->slots_left = slots.size();
  for (const Slot slot : slots) ListPage(listing, slot, kNoChunk);
}

void LaneChunks::ListPage(const std::shared_ptr<Listing>& listing, Slot slot,
                          const ChunkId& after) {
  LaneOf(slot).ListSlot(slot, after, kPageChunks, [this, listing, slot](ChunkListing page) {
    thread_->Post([this, listing, slot, page = std::move(page)] {
      for (const ChunkInfo& info : page.chunks) {
        listing->chunks.push_back({.id = info.id,
                                   .sealed = info.sealed,
                                   .tokens = info.tokens,
                                   .checksum = info.checksum,
                                   .layer_tokens = info.layer_tokens});
      }
      if (page.more && !page.chunks.empty()) {
        return ListPage(listing, slot, page.chunks.back().id);
      }
      if (--listing->slots_left == 0) listing->done(std::move(listing->chunks));
    });
  });
}

void LaneChunks::Publish(const ChunkRange& range, Epoch placed, CopiedRecords records, Done done) {
  const LocalRecords local{.chunk = range.chunk,
                           .range = {.first_layer = range.first_layer,
                                     .layers = range.layers,
                                     .first_token = range.first_token,
                                     .tokens = range.tokens},
                           .records = records.bytes,
                           .placed = placed};
  LaneOf(range.chunk.slot())
      .PublishLocal(local, OnThread([done = std::move(done), owner = std::move(records.owner)](
                                        absl::Status status) { done(std::move(status)); }));
}

void LaneChunks::Seal(const ChunkId& chunk, uint32_t tokens, uint64_t checksum, Epoch placed,
                      Done done) {
  LaneOf(chunk.slot()).SealLocal(chunk, tokens, checksum, placed, OnThread(std::move(done)));
}

void LaneChunks::Drop(const ChunkId& chunk, Epoch placed, Done done) {
  LaneOf(chunk.slot()).DropLocal(chunk, placed, OnThread(std::move(done)));
}

void LaneChunks::Discard(const ChunkId& chunk, Epoch placed, Done done) {
  LaneOf(chunk.slot()).DiscardLocal(chunk, placed, OnThread(std::move(done)));
}

void LaneChunks::MarkLost(const ChunkId& chunk, uint32_t tokens, uint64_t checksum, Epoch placed,
                          Done done) {
  LaneOf(chunk.slot()).MarkLostLocal(chunk, tokens, checksum, placed, OnThread(std::move(done)));
}

}  // namespace latentd
