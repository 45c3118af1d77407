#include "client/cache_fetch.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "client/range_body.h"
#include "client/slices.h"
#include "transport/wire_build.h"

namespace latentd {
namespace {

// Of a request: a layer or two of a page. With a session's 64 requests in flight, what is on its way
// stays in processors' caches and in memory that was used before. 61 MiB over shared memory took
// 24 ms so, 48 with twice as much in a request, 90 with whole pages; over tcp 39, 39 and 94.
constexpr uint64_t kMostBytes = 96 << 10;

absl::Status About(const ChunkId& chunk, const absl::Status& status) {
  return absl::Status(status.code(),
                      absl::StrCat("chunk ", ToString(chunk), ": ", std::string(status.message())));
}

absl::Status CheckPart(const CachePart& part, const Layout& layout) {
  const uint64_t end = uint64_t{part.first_layer} + part.layers;
  if (part.first_layer >= layout.layers || end > layout.layers) {
    return absl::OutOfRangeError(absl::StrCat("layers: got ", part.first_layer, " to ", end,
                                              ", the layout has ", layout.layers));
  }
  for (const TokenRun& run : part.runs) {
    if (run.tokens == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("run at token ", run.first, ": tokens: got 0, expected at least 1"));
    }
    if (uint64_t{run.first} + run.tokens > std::numeric_limits<uint32_t>::max()) {
      return absl::OutOfRangeError(
          absl::StrCat("run at token ", run.first, ": too many tokens: ", run.tokens));
    }
  }
  return absl::OkStatus();
}

// Items are ranges of records within one page.
class CacheFetchOperation final : public Operation {
 public:
  struct Item {
    ChunkRange range;
    uint32_t task = 0;
  };

  CacheFetchOperation(std::vector<CacheTask> tasks, std::vector<PageCache::Use> uses,
                      std::vector<Item> items, ChunkCache& cache, CacheFetchCallback done)
      : tasks_(std::move(tasks)),
        uses_(std::move(uses)),
        items_(std::move(items)),
        initial_items_(static_cast<uint32_t>(items_.size())),
        cache_(cache),
        done_(std::move(done)) {}

  uint32_t initial_items() const override { return initial_items_; }
  Slot SlotOf(uint32_t item) const override { return items_[item].range.chunk.slot(); }
  Placement placement() const override { return Placement::kAnyHolder; }

  absl::Status Build(const Target& target, std::span<const uint32_t> items,
                     std::vector<Built>* built) override {
    const uint64_t record_bytes = cache_.layout().record_bytes();
    for (const uint32_t item : items) {
      const Item whole = items_[item];
      for (const Slice& slice :
           SliceRange(whole.range, record_bytes,
                      std::min(target.session.limits.payload_bytes_per_request, kMostBytes))) {
        Built out;
        out.items.push_back(static_cast<uint32_t>(items_.size()));
        out.out.opcode = wire::Opcode::kFetch;
        out.out.reply_payload_bytes = slice.bytes;
        BuildFetch({}, BodyOf(slice.range), &out.out.header);
        items_.push_back({slice.range, whole.task});
        built->push_back(std::move(out));
      }
    }
    return absl::OkStatus();
  }

  absl::Status OnAnswer(std::span<const uint32_t> items, uint32_t, bool,
                        ExchangeResult result) override {
    const Item& item = items_[items[0]];
    cache_.Store(uses_[item.task], tasks_[item.task].rotation, item.range, result.payload.bytes());
    report_.bytes += result.payload.bytes().size();
    ++report_.requests;
    return absl::OkStatus();
  }

  void Finish(absl::Status status) override {
    uses_.clear();  // before the callback, which may want the room
    if (!status.ok()) {
      done_(std::move(status));
      return;
    }
    report_.bytes_sent = bytes_sent;
    report_.bytes_received = bytes_received;
    done_(report_);
  }

 private:
  const std::vector<CacheTask> tasks_;
  std::vector<PageCache::Use> uses_;  // one for each task
  std::vector<Item> items_;
  const uint32_t initial_items_;
  ChunkCache& cache_;
  const CacheFetchCallback done_;
  CacheFetchReport report_;
};

}  // namespace

absl::StatusOr<std::vector<CacheTask>> CheckCacheParts(std::span<const CachePart> parts,
                                                       ChunkCache& cache) {
  if (parts.empty()) return absl::InvalidArgumentError("parts: got 0, expected at least 1");
  std::vector<CacheTask> tasks;
  for (const CachePart& part : parts) {
    if (absl::Status s = CheckPart(part, cache.layout()); !s.ok()) return About(part.chunk, s);
    absl::StatusOr<Rotation> rotation = cache.RotationBy(part.position_shift);
    if (!rotation.ok()) return About(part.chunk, rotation.status());
    tasks.push_back(
        {.chunk = part.chunk,
         .position_shift = part.position_shift,
         .rotation = *std::move(rotation),
         .runs = {part.runs.begin(), part.runs.end()},
         .first_layer = part.first_layer,
         .layers = part.layers > 0 ? part.layers : cache.layout().layers - part.first_layer,
         .chunk_tokens = cache.pages().TokensOf({part.chunk, part.position_shift}).value_or(0)});
  }
  return tasks;
}

std::vector<ChunkId> UnknownChunks(std::span<const CacheTask> tasks) {
  std::vector<ChunkId> unknown;
  absl::flat_hash_set<ChunkId> seen;
  for (const CacheTask& task : tasks) {
    if (task.chunk_tokens == 0 && seen.insert(task.chunk).second) unknown.push_back(task.chunk);
  }
  return unknown;
}

absl::Status FillIn(std::span<const ChunkStat> stats, std::vector<CacheTask>* tasks) {
  absl::flat_hash_map<ChunkId, uint32_t> tokens;
  for (const ChunkStat& stat : stats) {
    if (!stat.present) return About(stat.id, absl::NotFoundError("no holder has it"));
    if (!stat.sealed) {
      return About(stat.id, absl::FailedPreconditionError("it is not sealed; only what cannot "
                                                          "change any more is cached"));
    }
    if (stat.tokens == 0) return About(stat.id, absl::InternalError("sealed without a token"));
    tokens[stat.id] = stat.tokens;
  }
  for (CacheTask& task : *tasks) {
    if (const auto found = tokens.find(task.chunk); found != tokens.end())
      task.chunk_tokens = found->second;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<Operation>> MakeCacheFetch(std::vector<CacheTask> tasks,
                                                          ChunkCache& cache,
                                                          CacheFetchCallback done) {
  std::vector<CacheWant> wants;
  for (CacheTask& task : tasks) {
    if (task.runs.empty()) task.runs.push_back({0, task.chunk_tokens});
    for (const TokenRun& run : task.runs) {
      if (run.first + run.tokens <= task.chunk_tokens) continue;
      return About(task.chunk, absl::OutOfRangeError(absl::StrCat("tokens: got ", run.first, " to ",
                                                                  run.first + run.tokens,
                                                                  ", it has ", task.chunk_tokens)));
    }
    wants.push_back({{task.chunk, task.position_shift}, task.chunk_tokens, task.runs});
  }
  absl::StatusOr<std::vector<PageCache::Use>> uses = cache.pages().Reserve(wants);
  if (!uses.ok()) return uses.status();
  std::vector<CacheFetchOperation::Item> items;
  for (uint32_t i = 0; i < tasks.size(); ++i) {
    for (const ChunkRange& range :
         (*uses)[i].Missing(tasks[i].first_layer, tasks[i].layers, tasks[i].runs)) {
      items.push_back({range, i});
    }
  }
  return std::make_unique<CacheFetchOperation>(std::move(tasks), *std::move(uses), std::move(items),
                                               cache, std::move(done));
}

}  // namespace latentd
