#include "daemon/replication/remote_chunks.h"

#include <utility>

#include "client/clock.h"
#include "routing/chunk_id.h"

namespace latentd {
namespace {

ChunkState StateOf(const wire::StatEntry& entry, std::vector<uint32_t> layer_tokens) {
  return {.id = {.hi = entry.chunk_hi, .lo = entry.chunk_lo},
          .sealed = entry.sealed != 0,
          .tokens = entry.tokens,
          .checksum = entry.checksum,
          .layer_tokens = std::move(layer_tokens),
          .lost = entry.present == 0};
}

}  // namespace

// The answers for many slots of one node.
struct RemoteChunks::Listing {
  NodeId node;
  ListDone done;
  size_t slots_left = 0;
  absl::Status failed;
  std::vector<ChunkState> chunks;
};

void RemoteChunks::List(const NodeId& node, std::vector<SlotClaim> slots, ListDone done) {
  auto listing = std::make_shared<Listing>();
  listing->node = node;
  listing->done = std::move(done);
  listing->slots_left = slots.size();
  for (const SlotClaim& slot : slots) ListPage(listing, slot, kNoChunk);
}

void RemoteChunks::ListPage(std::shared_ptr<Listing> listing, SlotClaim slot,
                            const ChunkId& after) {
  thread_->client().List(
      listing->node, slot.slot, slot.placed, after, DeadlineNs(),
      [this, listing, slot](absl::StatusOr<PeerListing> page) {
        if (page.ok()) {
          for (size_t i = 0; i < page->chunks.size(); ++i) {
            listing->chunks.push_back(StateOf(page->chunks[i], std::move(page->layer_tokens[i])));
          }
          if (page->more && !page->chunks.empty() && listing->failed.ok()) {
            return ListPage(listing, slot, listing->chunks.back().id);
          }
        } else if (listing->failed.ok()) {
          listing->failed = page.status();
        }
        if (--listing->slots_left > 0) return;
        if (listing->failed.ok()) {
          listing->done(std::move(listing->chunks));
        } else {
          listing->done(listing->failed);
        }
      });
}

void RemoteChunks::Fetch(const NodeId& node, const ChunkRange& range, FetchDone done) {
  thread_->client().Fetch(node, range, DeadlineNs(),
                          [done = std::move(done)](absl::StatusOr<ReplyPayload> records) {
                            if (!records.ok()) return done(records.status());
                            auto owner = std::make_shared<ReplyPayload>(*std::move(records));
                            const std::span<const std::byte> bytes = owner->bytes();
                            done(CopiedRecords{std::move(owner), bytes});
                          });
}

void RemoteChunks::Doubt(const NodeId& node, const ChunkId& chunk) {
  thread_->client().Doubt(node, chunk, DeadlineNs(), [](const PeerAnswer&) {});
}

uint64_t RemoteChunks::DeadlineNs() const {
  return SteadyNanos() + static_cast<uint64_t>(absl::ToInt64Nanoseconds(patience_));
}

}  // namespace latentd
