// Integrity at rest: sealed chunks are read again and compared with the checksums that they were
// sealed with. What differs is taken out, and remembered: "not here" would be an answer about a
// chunk that nobody published, and its holder did acknowledge this one.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "daemon/store/chunk.h"
#include "daemon/store/latent_store.h"
#include "transport/record_checksum.h"

namespace latentd {
namespace {

// Open chunks are skipped; a turn of the lane looks at so many of them.
constexpr int kMaxSkipped = 1000;
constexpr size_t kMaxSoon = 256;

}  // namespace

absl::StatusOr<ScrubStep> LatentStore::Scrub(uint64_t most_bytes, absl::Time now) {
  ScrubStep step;
  while (step.bytes < most_bytes) {
    Chunk* chunk = Find(scrub_.id);
    // Done, gone meanwhile, or another one by now.
    if (scrub_.serial == 0 || chunk == nullptr || chunk->serial != scrub_.serial) {
      chunk = NextToScrub(step.end_of_pass);
      if (chunk == nullptr) return step;
    }
    const auto bytes = ScrubRun(*chunk, most_bytes - step.bytes);
    if (!bytes.ok()) return bytes.status();
    step.bytes += *bytes;
    scrubbed_bytes_ += *bytes;
    if (scrub_.layer < options_.layout.layers) continue;
    scrub_.serial = 0;
    if (scrub_.sum == chunk->checksum) continue;
    step.corrupt = Stat(chunk->id, now);
    Quarantine(*chunk);
    return step;
  }
  return step;
}

bool LatentStore::ScrubSoon(const ChunkId& id) {
  const Chunk* chunk = Find(id);
  if (chunk == nullptr || !chunk->sealed) return false;
  if (std::find(scrub_soon_.begin(), scrub_soon_.end(), id) != scrub_soon_.end()) return true;
  if (scrub_soon_.size() >= kMaxSoon) return false;
  scrub_soon_.push_back(id);
  return true;
}

Chunk* LatentStore::NextToScrub(bool& end) {
  while (!scrub_soon_.empty()) {
    Chunk* chunk = Find(scrub_soon_.front());
    scrub_soon_.pop_front();
    if (chunk == nullptr || !chunk->sealed) continue;
    scrub_ = {.id = chunk->id, .serial = chunk->serial};
    return chunk;
  }
  auto it = ordered_.upper_bound(scrub_pass_at_);
  for (int skipped = 0; it != ordered_.end() && skipped < kMaxSkipped; ++it, ++skipped) {
    Chunk* chunk = Find(*it);
    scrub_pass_at_ = *it;
    if (!chunk->sealed) continue;
    scrub_ = {.id = *it, .serial = chunk->serial};
    return chunk;
  }
  end = it == ordered_.end();
  if (end) scrub_pass_at_ = {};
  return nullptr;
}

absl::StatusOr<uint64_t> LatentStore::ScrubRun(const Chunk& chunk, uint64_t most_bytes) {
  const uint64_t wanted = std::max<uint64_t>(most_bytes / record_bytes_, 1);
  const uint32_t in_page = kPageTokens - scrub_.token % kPageTokens;
  const auto tokens = static_cast<uint32_t>(
      std::min({wanted, uint64_t{in_page}, uint64_t{chunk.sealed_tokens - scrub_.token}}));
  const uint64_t bytes = tokens * record_bytes_;
  runs_.clear();
  AddRuns(chunk, scrub_.layer, scrub_.token, scrub_.token + tokens, 0);
  const std::byte* records = nullptr;
  if (arena_->memory().on_host()) {
    records = arena_->memory().base() + runs_.front().memory_offset;
  } else {
    scrub_buffer_.resize(kPageTokens * record_bytes_);
    if (absl::Status s = arena_->memory().Read(runs_, scrub_buffer_.data()); !s.ok()) return s;
    records = scrub_buffer_.data();
  }
  scrub_.sum +=
      RangeChecksum({records, bytes}, record_bytes_, scrub_.layer, 1, scrub_.token, tokens);
  scrub_.token += tokens;
  if (scrub_.token == chunk.sealed_tokens) {
    scrub_.token = 0;
    ++scrub_.layer;
  }
  return bytes;
}

void LatentStore::Quarantine(Chunk& chunk) {
  quarantined_[chunk.id] = {.tokens = chunk.sealed_tokens, .checksum = chunk.checksum};
  ++corrupt_;
  Drop(chunk);
}

absl::Status LatentStore::MarkLost(const ChunkId& id, uint32_t tokens, uint64_t checksum) {
  const Chunk* chunk = Find(id);
  if (chunk != nullptr && chunk->sealed) {
    if (chunk->sealed_tokens == tokens && chunk->checksum == checksum) return absl::OkStatus();
    return absl::AlreadyExistsError(
        absl::StrCat("chunk ", ToString(id), " is sealed here otherwise than where it was lost"));
  }
  if (absl::Status s = CheckSealedBefore(id, tokens, checksum); !s.ok()) return s;
  if (quarantined_.size() >= options_.max_chunks) {
    return absl::ResourceExhaustedError(absl::StrCat(
        "chunk ", ToString(id), ": ", quarantined_.size(), " chunks are quarantined already"));
  }
  quarantined_[id] = {.tokens = tokens, .checksum = checksum};
  return absl::OkStatus();
}

absl::Status LatentStore::CheckIntact(const ChunkId& id) const {
  if (quarantined_.empty() || !quarantined_.contains(id)) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(
      "chunk ", ToString(id),
      " no longer had the bytes that it was sealed with and was taken out: ask another holder"));
}

absl::Status LatentStore::CheckSealedBefore(const ChunkId& id, uint32_t tokens,
                                            uint64_t checksum) const {
  if (quarantined_.empty()) return absl::OkStatus();
  const auto it = quarantined_.find(id);
  if (it == quarantined_.end()) return absl::OkStatus();
  const auto& [was_tokens, was_checksum] = it->second;
  if (was_tokens == tokens && was_checksum == checksum) return absl::OkStatus();
  return absl::AlreadyExistsError(
      absl::StrCat("chunk ", ToString(id), " was sealed before, with ", was_tokens,
                   " tokens and checksum ", absl::Hex(was_checksum, absl::kZeroPad16), ", not ",
                   tokens, " and ", absl::Hex(checksum, absl::kZeroPad16)));
}

}  // namespace latentd
