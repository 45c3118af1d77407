// For tests: a simulated clock, nodes that have chunks, and what copying needs of them. Answers
// come after random delays, drawn from a seed. One thread.
#ifndef LATENTD_DAEMON_REPLICATION_FAKE_COPIES_H_
#define LATENTD_DAEMON_REPLICATION_FAKE_COPIES_H_

#include <functional>
#include <map>
#include <memory>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "daemon/etcd/scheduler.h"
#include "daemon/replication/copy_source.h"
#include "routing/layout.h"

namespace latentd {

class FakeScheduler final : public Scheduler {
 public:
  absl::Time now() const override { return now_; }
  TimerId After(absl::Duration delay, std::function<void()> closure) override {
    const TimerId id{next_++};
    timers_[{now_ + delay, ToInt(id)}] = std::move(closure);
    return id;
  }
  void Cancel(TimerId timer) override {
    std::erase_if(timers_, [&](const auto& t) { return t.first.second == ToInt(timer); });
  }

  bool Step() {
    if (timers_.empty()) return false;
    auto first = timers_.extract(timers_.begin());
    now_ = first.key().first;
    first.mapped()();
    return true;
  }
  // Runs for so long, or until nothing is left to do.
  void Run(absl::Duration time) {
    const absl::Time end = now_ + time;
    while (!timers_.empty() && timers_.begin()->first.first <= end) Step();
    now_ = std::max(now_, end);
  }

 private:
  absl::Time now_ = absl::UnixEpoch();
  uint64_t next_ = 1;
  std::map<std::pair<absl::Time, uint64_t>, std::function<void()>> timers_;
};

// Tokens that have arrived, by layer. Of what they hold only this is simulated: records with another
// `content` are other bytes, and those of a sealed chunk are right if it is the checksum.
struct FakeChunk {
  bool sealed = false;
  uint64_t checksum = 0;
  std::vector<uint32_t> layer_tokens;
  uint64_t content = 0;

  uint32_t tokens() const { return *std::min_element(layer_tokens.begin(), layer_tokens.end()); }
  friend bool operator==(const FakeChunk&, const FakeChunk&) = default;
};
using FakeStore = std::map<ChunkId, FakeChunk>;

// Answers as lanes and their stores do.
class FakeCluster final : public PeerChunks, public LocalChunks {
 public:
  FakeCluster(FakeScheduler* scheduler, const Layout& layout, NodeId self, uint64_t seed)
      : scheduler_(scheduler), layout_(layout), self_(std::move(self)), random_(seed) {}

  // What a test sets.
  std::map<NodeId, FakeStore> stores;
  std::map<NodeId, FakeStore> lost;  // quarantined, as they were sealed
  TablePtr table;                    // that every node goes by
  std::set<NodeId> down;             // do not answer
  double failures = 0;               // share of calls that fail
  size_t most_chunks = SIZE_MAX;     // here: more are evicted
  // What a test reads.
  std::set<std::pair<NodeId, ChunkId>> doubts;
  uint64_t lists = 0;
  uint64_t fetches = 0;
  uint64_t fetched_bytes = 0;
  uint32_t fetching = 0;
  uint32_t most_fetching = 0;

  void List(const NodeId& node, std::vector<SlotClaim> slots, PeerChunks::ListDone done) override {
    ++lists;
    Later([this, node, slots = std::move(slots), done = std::move(done)] {
      if (!Answers(node)) return done(absl::UnavailableError(node + " does not answer"));
      std::vector<ChunkState> all;
      for (const SlotClaim& slot : slots) {
        if (table->PlacedOf(slot.slot) != slot.placed) {
          return done(absl::UnavailableError("another placement"));
        }
        AppendSlot(node, slot.slot, true, &all);
      }
      done(std::move(all));
    });
  }

  void Fetch(const NodeId& node, const ChunkRange& range, FetchDone done) override {
    ++fetches;
    most_fetching = std::max(most_fetching, ++fetching);
    Later([this, node, range, done = std::move(done)] {
      --fetching;
      if (!Answers(node)) return done(absl::UnavailableError(node + " does not answer"));
      if (lost[node].contains(range.chunk)) return done(absl::DataLossError("damaged"));
      const auto found = stores[node].find(range.chunk);
      if (found == stores[node].end()) return done(absl::NotFoundError("no such chunk"));
      for (uint32_t l = range.first_layer; l < range.first_layer + range.layers; ++l) {
        if (found->second.layer_tokens[l] < range.first_token + range.tokens)
          return done(absl::OutOfRangeError("has not arrived"));
      }
      fetched_bytes += uint64_t{range.layers} * range.tokens * layout_.record_bytes();
      auto content = std::make_shared<uint64_t>(found->second.content);
      done(CopiedRecords{content, {reinterpret_cast<const std::byte*>(content.get()), 8}});
    });
  }

  void Doubt(const NodeId& node, const ChunkId& chunk) override { doubts.insert({node, chunk}); }

  void List(std::vector<Slot> slots, LocalChunks::ListDone done) override {
    Later([this, slots = std::move(slots), done = std::move(done)] {
      std::vector<ChunkState> all;
      for (const Slot slot : slots) AppendSlot(self_, slot, false, &all);
      done(std::move(all));
    });
  }

  void Publish(const ChunkRange& range, Epoch placed, CopiedRecords records, Done done) override {
    Later([this, range, placed, records, done = std::move(done)] {
      if (!IsPlaced(range.chunk, placed)) return done(absl::UnavailableError("placed otherwise"));
      const uint64_t content = *reinterpret_cast<const uint64_t*>(records.bytes.data());
      done(Take(range, content));
    });
  }

  void Seal(const ChunkId& id, uint32_t tokens, uint64_t checksum, Epoch placed,
            Done done) override {
    Later([this, id, tokens, checksum, placed, done = std::move(done)] {
      if (!IsPlaced(id, placed)) return done(absl::UnavailableError("placed otherwise"));
      const auto found = stores[self_].find(id);
      if (found == stores[self_].end()) return done(absl::NotFoundError("no such chunk"));
      FakeChunk& chunk = found->second;
      if (chunk.sealed) {
        return done(chunk.checksum == checksum && chunk.tokens() == tokens
                        ? absl::OkStatus()
                        : absl::AlreadyExistsError("sealed otherwise"));
      }
      if (chunk.tokens() < tokens) return done(absl::FailedPreconditionError("missing"));
      const auto was = lost[self_].find(id);
      if (was != lost[self_].end() && was->second.checksum != checksum) {
        return done(absl::AlreadyExistsError("was sealed otherwise"));
      }
      if (chunk.content != checksum) return done(absl::DataLossError("another checksum"));
      chunk.sealed = true;
      chunk.checksum = checksum;
      lost[self_].erase(id);
      Evict(id);
      done(absl::OkStatus());
    });
  }

  void Drop(const ChunkId& id, Epoch placed, Done done) override {
    Later([this, id, placed, done = std::move(done)] {
      if (!IsPlaced(id, placed)) return done(absl::UnavailableError("placed otherwise"));
      const auto found = stores[self_].find(id);
      if (found != stores[self_].end() && !found->second.sealed) stores[self_].erase(found);
      done(absl::OkStatus());
    });
  }

  void Discard(const ChunkId& id, Epoch placed, Done done) override {
    Later([this, id, placed, done = std::move(done)] {
      if (!IsPlaced(id, placed)) return done(absl::UnavailableError("placed otherwise"));
      if (!table->Joins(*table->FindNode(self_), id.slot())) {
        return done(absl::FailedPreconditionError("holds the slot already"));
      }
      stores[self_].erase(id);
      lost[self_].erase(id);
      done(absl::OkStatus());
    });
  }

  void MarkLost(const ChunkId& id, uint32_t tokens, uint64_t checksum, Epoch placed,
                Done done) override {
    Later([this, id, tokens, checksum, placed, done = std::move(done)] {
      if (!IsPlaced(id, placed)) return done(absl::UnavailableError("placed otherwise"));
      const auto found = stores[self_].find(id);
      if (found != stores[self_].end() && found->second.sealed) {
        return done(found->second.checksum == checksum ? absl::OkStatus()
                                                       : absl::AlreadyExistsError("otherwise"));
      }
      const auto was = lost[self_].find(id);
      if (was != lost[self_].end() && was->second.checksum != checksum) {
        return done(absl::AlreadyExistsError("was lost otherwise"));
      }
      lost[self_][id] = {.sealed = true,
                         .checksum = checksum,
                         .layer_tokens = std::vector<uint32_t>(layout_.layers, tokens)};
      done(absl::OkStatus());
    });
  }

 private:
  void Later(std::function<void()> closure) {
    scheduler_->After(absl::Microseconds(random_() % 1000), std::move(closure));
  }
  bool Answers(const NodeId& node) {
    if (down.contains(node)) return false;
    return std::uniform_real_distribution<double>()(random_) >= failures;
  }
  bool IsPlaced(const ChunkId& id, Epoch placed) const {
    return table->PlacedOf(id.slot()) == placed;
  }
  // Ranges come in any order here: the furthest end is good enough for what is tested.
  absl::Status Take(const ChunkRange& range, uint64_t content) {
    FakeStore& store = stores[self_];
    const auto found = store.find(range.chunk);
    if (found == store.end()) {
      store[range.chunk] = {.layer_tokens = std::vector<uint32_t>(layout_.layers),
                            .content = content};
    }
    FakeChunk& chunk = store[range.chunk];
    const uint32_t end = range.first_token + range.tokens;
    for (uint32_t l = range.first_layer; l < range.first_layer + range.layers; ++l) {
      if (chunk.sealed && end > chunk.layer_tokens[l]) {
        return absl::FailedPreconditionError("beyond the end of a sealed chunk");
      }
      if (chunk.content != content && chunk.layer_tokens[l] > range.first_token) {
        return absl::AlreadyExistsError("other bytes");
      }
    }
    if (chunk.content != content) chunk.content += 31 * content;  // of both
    for (uint32_t l = range.first_layer; l < range.first_layer + range.layers; ++l) {
      chunk.layer_tokens[l] = std::max(chunk.layer_tokens[l], end);
    }
    return absl::OkStatus();
  }
  void AppendSlot(const NodeId& node, Slot slot, bool remote, std::vector<ChunkState>* all) {
    const FakeStore& gone = lost[node];
    for (const auto& [id, chunk] : stores[node]) {
      if (id.slot() != slot || (remote && gone.contains(id))) continue;
      all->push_back(
          {.id = id,
           .sealed = chunk.sealed,
           .tokens = chunk.tokens(),
           .checksum = chunk.checksum,
           .layer_tokens = remote && !chunk.sealed ? chunk.layer_tokens : std::vector<uint32_t>{}});
    }
    for (const auto& [id, chunk] : gone) {
      if (id.slot() != slot || !remote) continue;
      all->push_back({.id = id,
                      .sealed = true,
                      .tokens = chunk.tokens(),
                      .checksum = chunk.checksum,
                      .lost = true});
    }
  }
  void Evict(const ChunkId& keep) {
    FakeStore& store = stores[self_];
    for (auto chunk = store.begin(); store.size() > most_chunks && chunk != store.end();) {
      chunk = chunk->first != keep && chunk->second.sealed ? store.erase(chunk) : std::next(chunk);
    }
  }

  FakeScheduler* const scheduler_;
  const Layout layout_;
  const NodeId self_;
  std::mt19937_64 random_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_REPLICATION_FAKE_COPIES_H_
