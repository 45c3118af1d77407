// Random operations against a model that keeps records in maps and knows nothing of pages.
#include <catch2/catch.hpp>

#include <algorithm>
#include <map>
#include <random>
#include <set>
#include <vector>

#include "daemon/store/latent_store.h"
#include "daemon/store/store_test_util.h"

namespace latentd {
namespace {

constexpr uint32_t kLayers = 2;
constexpr uint32_t kChunks = 6;
constexpr uint32_t kPages = 12;
constexpr uint32_t kMaxToken = 200;

struct ModelChunk {
  // [layer][token] -> the seed that its record was made from.
  std::map<uint32_t, uint32_t> records[kLayers];
  bool sealed = false;
  uint32_t tokens = 0;
  std::set<uint64_t> publishers;

  uint32_t prefix(uint32_t layer) const {
    uint32_t n = 0;
    while (records[layer].contains(n)) ++n;
    return n;
  }
};

class Simulation {
 public:
  explicit Simulation(uint32_t seed)
      : random_(seed), world_(kPages, {.layout = TinyLayout(kLayers)}) {}

  void Run(int steps) {
    for (int i = 0; i < steps; ++i) {
      world_.now += absl::Milliseconds(100);
      switch (random_() % 8) {
        case 0:
        case 1:
        case 2:
          Publish();
          break;
        case 3:
          Seal();
          break;
        case 4:
          Attend();
          break;
        case 5:
          EndWork();
          break;
        case 6:
          LeaseOrRelease();
          break;
        case 7:
          if (random_() % 4 == 0) EndSession();
          break;
      }
      const absl::Status invariants = world_.store->CheckInvariants();
      INFO(invariants.ToString());
      REQUIRE(invariants.ok());
      ForgetEvicted();
      CheckContents();
    }
    Finish();
  }

 private:
  uint32_t Pick(uint32_t n) { return random_() % n; }
  SessionToken Session() { return {Pick(3) + 1, 0}; }

  void Publish() {
    const uint64_t n = Pick(kChunks) + 1;
    const uint32_t first_layer = Pick(kLayers);
    const uint32_t first_token = Pick(3) == 0 ? Pick(kMaxToken) : NextToken(n, first_layer);
    const RecordRange range{first_layer, 1 + Pick(kLayers - first_layer), first_token,
                            1 + Pick(90)};
    const SessionToken session = Session();
    const uint32_t seed = Pick(12) == 0;
    const absl::Status status = world_.store->Publish(
        TinyId(n), range, TinyRecords(world_.layout(), range, seed), session, world_.now);
    const auto it = model_.find(n);
    bool differs = false, any_new = it == model_.end();
    ForEach(range, [&](uint32_t l, uint32_t t) {
      if (it == model_.end()) return;
      const auto record = it->second.records[l].find(t);
      if (record == it->second.records[l].end()) {
        any_new = true;
      } else {
        differs |= record->second != seed;
      }
    });
    if (it != model_.end() && it->second.sealed &&
        range.first_token + range.tokens > it->second.tokens) {
      REQUIRE(status.code() == absl::StatusCode::kFailedPrecondition);
    } else if (differs) {
      REQUIRE(status.code() == absl::StatusCode::kAlreadyExists);
    } else if (any_new) {
      REQUIRE((status.ok() || status.code() == absl::StatusCode::kResourceExhausted));
      if (status.ok()) {
        ModelChunk& chunk = model_[n];
        ForEach(range, [&](uint32_t l, uint32_t t) { chunk.records[l][t] = seed; });
        chunk.publishers.insert(session.hi);
      }
    } else {
      REQUIRE(status.ok());
      if (!it->second.sealed) it->second.publishers.insert(session.hi);
    }
  }

  void Seal() {
    const uint64_t n = Pick(kChunks) + 1;
    const auto it = model_.find(n);
    if (it == model_.end()) {
      REQUIRE(world_.store->Seal(TinyId(n), 1, 0, world_.now).code() ==
              absl::StatusCode::kNotFound);
      return;
    }
    ModelChunk& chunk = it->second;
    const uint32_t tokens = chunk.prefix(Pick(kLayers));
    uint64_t checksum = 0;
    bool complete = tokens > 0;
    for (uint32_t l = 0; l < kLayers; ++l) {
      complete &= chunk.prefix(l) == tokens && chunk.records[l].size() == tokens;
      for (const auto& [t, seed] : chunk.records[l]) {
        checksum += RecordChecksum(TinyRecords(world_.layout(), {l, 1, t, 1}, seed), l, t);
      }
    }
    const bool expected = chunk.sealed ? tokens == chunk.tokens : complete;
    const absl::Status status = world_.store->Seal(TinyId(n), tokens, checksum, world_.now);
    INFO(status.ToString());
    REQUIRE(status.ok() == expected);
    if (status.ok()) {
      chunk.sealed = true;
      chunk.tokens = tokens;
      chunk.publishers.clear();
    }
  }

  void Attend() {
    const uint64_t n = Pick(kChunks) + 1;
    const uint32_t layer = Pick(kLayers);
    const uint32_t visible = Pick(kMaxToken);
    const auto pin = world_.store->PinForAttend(TinyId(n), layer, visible, world_.now);
    const auto it = model_.find(n);
    if (it == model_.end()) {
      REQUIRE(pin.status().code() == absl::StatusCode::kNotFound);
    } else if (visible > it->second.prefix(layer)) {
      REQUIRE(pin.status().code() == absl::StatusCode::kOutOfRange);
    } else {
      REQUIRE(pin.ok());
      // What the work will read: these bytes may not change until Unpin, whatever happens to the
      // chunk.
      std::vector<std::byte> seen;
      for (uint32_t t = 0; t < visible; ++t) Append(*pin, layer, t, seen);
      work_.push_back({*pin, layer, visible, std::move(seen)});
    }
  }

  void EndWork() {
    if (work_.empty()) return;
    const size_t i = Pick(work_.size());
    Work& work = work_[i];
    std::vector<std::byte> now;
    for (uint32_t t = 0; t < work.visible; ++t) Append(work.pin, work.layer, t, now);
    REQUIRE(now == work.seen);
    world_.store->Unpin(work.pin, world_.now);
    work_.erase(work_.begin() + i);
  }

  void LeaseOrRelease() {
    const ChunkId id = TinyId(Pick(kChunks) + 1);
    if (Pick(3) == 0) {
      world_.store->Release(id, Session(), world_.now);
    } else {
      (void)world_.store->Lease(id, Session(), absl::Seconds(Pick(20)), world_.now);
    }
    if (Pick(4) == 0) world_.store->ExpireLeases(world_.now);
  }

  void EndSession() {
    const SessionToken session = Session();
    world_.store->EndSession(session, world_.now);
    REQUIRE_FALSE(world_.store->HoldsAnything(session));
    for (auto it = model_.begin(); it != model_.end();) {
      const bool was_publisher = it->second.publishers.erase(session.hi) > 0;
      const bool goes = was_publisher && it->second.publishers.empty();
      if (goes) REQUIRE_FALSE(world_.Has(it->first));
      it = goes ? model_.erase(it) : std::next(it);
    }
  }

  // Sealed chunks may be evicted at any time; open ones and leased ones never.
  void ForgetEvicted() {
    for (auto it = model_.begin(); it != model_.end();) {
      const bool here = world_.Has(it->first);
      if (!here) REQUIRE(it->second.sealed);
      it = here ? std::next(it) : model_.erase(it);
    }
  }

  void CheckContents() {
    for (const auto& [n, chunk] : model_) {
      for (uint32_t l = 0; l < kLayers; ++l) {
        if (chunk.records[l].empty()) continue;
        // One random record of each layer: all of them would be slow.
        auto it = chunk.records[l].begin();
        std::advance(it, Pick(chunk.records[l].size()));
        std::vector<std::byte> out(world_.layout().record_bytes());
        REQUIRE(world_.store->FetchBytes(TinyId(n), {l, 1, it->first, 1}).ok());
        REQUIRE(world_.store->Fetch(TinyId(n), {l, 1, it->first, 1}, out, world_.now).ok());
        REQUIRE(out == TinyRecords(world_.layout(), {l, 1, it->first, 1}, it->second));
      }
    }
  }

  // With all work done and all sessions gone only sealed chunks are left, and exactly their pages.
  void Finish() {
    while (!work_.empty()) EndWork();
    for (uint64_t s = 1; s <= 3; ++s) world_.store->EndSession({s, 0}, world_.now);
    REQUIRE(world_.store->CheckInvariants().ok());
    const StoreCounts counts = world_.store->counts();
    REQUIRE(counts.chunks_open == 0);
    REQUIRE(counts.chunks_pinned == 0);
    REQUIRE(counts.chunks_dropped == 0);
    uint64_t pages = 0;
    for (const auto& info : world_.store->List("", kChunks, world_.now).chunks) {
      pages += (info.tokens + kPageTokens - 1) / kPageTokens;
    }
    REQUIRE(counts.pages_total - counts.pages_free == pages);
  }

  struct Work {
    ChunkPin pin;
    uint32_t layer = 0;
    uint32_t visible = 0;
    std::vector<std::byte> seen;
  };

  uint32_t NextToken(uint64_t n, uint32_t layer) {
    const auto it = model_.find(n);
    return it == model_.end() ? 0 : std::min(it->second.prefix(layer), kMaxToken);
  }

  template <typename F>
  static void ForEach(const RecordRange& range, F f) {
    for (uint32_t l = range.first_layer; l < range.first_layer + range.layers; ++l) {
      for (uint32_t t = range.first_token; t < range.first_token + range.tokens; ++t) f(l, t);
    }
  }

  void Append(const ChunkPin& pin, uint32_t layer, uint32_t token, std::vector<std::byte>& to) {
    const CacheView view = world_.store->view();
    const uint64_t bytes = world_.layout().record_bytes();
    to.resize(to.size() + bytes);
    const RecordRun run = {.memory_offset = pin.page_ids[token / kPageTokens] * view.page_bytes +
                                            layer * view.layer_bytes + token % kPageTokens * bytes,
                           .host_offset = to.size() - bytes,
                           .bytes = bytes};
    REQUIRE(world_.store->arena().memory().Read({&run, 1}, to.data()).ok());
  }

  std::mt19937 random_;
  TinyWorld world_;
  std::map<uint64_t, ModelChunk> model_;
  std::vector<Work> work_;
};

TEST_CASE("random operations agree with a simple model") {
  const uint32_t first_seed = std::random_device{}();
  for (uint32_t i = 0; i < 30; ++i) {
    const uint32_t seed = first_seed + i;
    CAPTURE(seed);
    Simulation(seed).Run(400);
  }
}

}  // namespace
}  // namespace latentd
