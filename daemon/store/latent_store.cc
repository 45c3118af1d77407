#include "daemon/store/latent_store.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/store/chunk.h"
#include "kernels/validate.h"
#include "routing/chunk_id.h"

namespace latentd {
namespace {

constexpr uint32_t kMaxLayers = 4096;

uint64_t PagesAt(double share, uint64_t pages) {
  return static_cast<uint64_t>(std::floor(share * static_cast<double>(pages)));
}

}  // namespace

absl::StatusOr<std::unique_ptr<LatentStore>> LatentStore::Create(
    StoreOptions options, const AllocateRecordMemory& allocate) {
  const Layout& layout = options.layout;
  if (absl::Status s = ValidateGeometry(layout.geometry(), layout.record_format); !s.ok()) return s;
  if (layout.layers == 0 || layout.layers > kMaxLayers) {
    return absl::InvalidArgumentError(
        absl::StrCat("a layout of ", layout.layers, " layers; 1 to ", kMaxLayers, " can be held"));
  }
  if (layout.page_tokens != kPageTokens) {
    return absl::InvalidArgumentError(
        absl::StrCat("pages of ", layout.page_tokens, " tokens; this build has ", kPageTokens));
  }
  const bool watermarks_ok = options.low_watermark > 0 &&
                             options.low_watermark <= options.high_watermark &&
                             options.high_watermark <= 1;
  if (!watermarks_ok) {
    return absl::InvalidArgumentError(absl::StrCat("watermarks ", options.low_watermark, " and ",
                                                   options.high_watermark,
                                                   " are not 0 < low <= high <= 1"));
  }
  const uint64_t pages = options.cache_bytes / layout.page_bytes();
  if (pages == 0) {
    return absl::InvalidArgumentError(absl::StrCat("a cache of ", options.cache_bytes,
                                                   " bytes holds no page of ", layout.page_bytes(),
                                                   " bytes (", layout.layers, " layers)"));
  }
  auto arena = PageArena::Create(layout.page_bytes(), pages, allocate);
  if (!arena.ok()) return arena.status();
  return std::unique_ptr<LatentStore>(new LatentStore(std::move(options), *std::move(arena)));
}

LatentStore::LatentStore(StoreOptions options, std::unique_ptr<PageArena> arena)
    : options_(std::move(options)),
      record_bytes_(options_.layout.record_bytes()),
      arena_(std::move(arena)),
      high_pages_(PagesAt(options_.high_watermark, arena_->pages_total())),
      low_pages_(PagesAt(options_.low_watermark, arena_->pages_total())) {}

LatentStore::~LatentStore() = default;

Chunk* LatentStore::Find(const ChunkId& id) {
  const auto it = chunks_.find(id);
  return it == chunks_.end() ? nullptr : it->second.get();
}

const Chunk* LatentStore::Find(const ChunkId& id) const {
  return const_cast<LatentStore*>(this)->Find(id);
}

void LatentStore::AddRuns(const Chunk& chunk, uint32_t layer, uint32_t first, uint32_t end,
                          uint64_t host_offset) {
  for (uint32_t token = first; token < end;) {
    const uint32_t tokens = std::min(end - token, kPageTokens - token % kPageTokens);
    runs_.push_back({.memory_offset = arena_->page_offset(chunk.pages[token / kPageTokens]) +
                                      layer * options_.layout.layer_bytes() +
                                      token % kPageTokens * record_bytes_,
                     .host_offset = host_offset,
                     .bytes = tokens * record_bytes_});
    host_offset += tokens * record_bytes_;
    token += tokens;
  }
}

CacheView LatentStore::view() const {
  return {.arena = arena_->memory().base(),
          .page_bytes = arena_->page_bytes(),
          .layer_bytes = options_.layout.layer_bytes()};
}

absl::Status LatentStore::Seal(const ChunkId& id, uint32_t tokens, uint64_t checksum,
                               absl::Time now) {
  Chunk* chunk = Find(id);
  if (chunk == nullptr) {
    return absl::NotFoundError(absl::StrCat("chunk ", ToString(id), " is not here"));
  }
  if (chunk->sealed) {
    if (chunk->sealed_tokens == tokens && chunk->checksum == checksum) return absl::OkStatus();
    return absl::AlreadyExistsError(
        absl::StrCat("chunk ", ToString(id), " is sealed already, with ", chunk->sealed_tokens,
                     " tokens and checksum ", absl::Hex(chunk->checksum, absl::kZeroPad16),
                     ", not ", tokens, " and ", absl::Hex(checksum, absl::kZeroPad16)));
  }
  if (tokens == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("chunk ", ToString(id), " cannot be sealed with no tokens"));
  }
  for (uint32_t l = 0; l < options_.layout.layers; ++l) {
    const ArrivedTokens& arrived = chunk->layers[l];
    if (arrived.end() > tokens) {
      return absl::InvalidArgumentError(
          absl::StrCat("chunk ", ToString(id), " has records up to token ", arrived.end() - 1,
                       " in layer ", l, ": it cannot be sealed with ", tokens, " tokens"));
    }
    if (arrived.prefix() < tokens) {
      return absl::FailedPreconditionError(absl::StrCat(
          "chunk ", ToString(id), " cannot be sealed with ", tokens,
          " tokens: the record of layer ", l, ", token ", arrived.prefix(), " has not arrived"));
    }
  }
  if (absl::Status s = CheckSealedBefore(id, tokens, checksum); !s.ok()) return s;
  if (chunk->checksum != checksum) {
    return absl::DataLossError(absl::StrCat(
        "chunk ", ToString(id), " has checksum ", absl::Hex(chunk->checksum, absl::kZeroPad16),
        " here, the publisher's is ", absl::Hex(checksum, absl::kZeroPad16)));
  }
  ForgetPublishers(*chunk);
  chunk->sealed = true;
  chunk->sealed_tokens = tokens;
  quarantined_.erase(id);
  --open_;
  chunk->last_use = now;
  Reclassify(*chunk);
  return absl::OkStatus();
}

absl::StatusOr<ChunkPin> LatentStore::PinForAttend(const ChunkId& id, uint32_t layer,
                                                   uint32_t visible, absl::Time now) {
  if (layer >= options_.layout.layers) {
    return absl::OutOfRangeError(
        absl::StrCat("layer ", layer, "; the layout has ", options_.layout.layers));
  }
  if (absl::Status s = CheckIntact(id); !s.ok()) return s;
  Chunk* chunk = Find(id);
  if (chunk == nullptr) {
    return absl::NotFoundError(absl::StrCat("chunk ", ToString(id), " is not here"));
  }
  const uint32_t arrived = chunk->layers[layer].prefix();
  if (visible > arrived) {
    return absl::OutOfRangeError(absl::StrCat("chunk ", ToString(id), " layer ", layer, ": ",
                                              visible, " tokens asked for, ", arrived,
                                              " have arrived"));
  }
  ++chunk->pins;
  chunk->last_use = now;
  Reclassify(*chunk);
  return ChunkPin{chunk->pages.data(), chunk};
}

void LatentStore::Unpin(const ChunkPin& pin, absl::Time now) {
  Chunk& chunk = *pin.chunk;
  --chunk.pins;
  if (chunk.pins == 0) chunk.pages.DropRetired();
  chunk.last_use = now;
  if (!chunk.dropped) {
    Reclassify(chunk);
  } else if (chunk.pins == 0) {
    FreePages(chunk);
    dropped_.erase(&chunk);
  }
}

absl::StatusOr<uint64_t> LatentStore::FetchBytes(const ChunkId& id,
                                                 const RecordRange& range) const {
  if (absl::Status s = CheckRange(id, range); !s.ok()) return s;
  if (absl::Status s = CheckIntact(id); !s.ok()) return s;
  const Chunk* chunk = Find(id);
  if (chunk == nullptr) {
    return absl::NotFoundError(absl::StrCat("chunk ", ToString(id), " is not here"));
  }
  for (uint32_t l = range.first_layer; l < range.first_layer + range.layers; ++l) {
    if (!chunk->layers[l].Contains(range.first_token, range.first_token + range.tokens)) {
      return absl::OutOfRangeError(
          absl::StrCat("chunk ", ToString(id), " layer ", l, ": not all of tokens ",
                       range.first_token, " to ", range.first_token + range.tokens - 1,
                       " have arrived (", chunk->layers[l].prefix(), " from its start)"));
    }
  }
  return uint64_t{range.layers} * range.tokens * record_bytes_;
}

absl::Status LatentStore::Fetch(const ChunkId& id, const RecordRange& range,
                                std::span<std::byte> out, absl::Time now) {
  Chunk& chunk = *Find(id);
  runs_.clear();
  for (uint32_t l = 0; l < range.layers; ++l) {
    AddRuns(chunk, range.first_layer + l, range.first_token, range.first_token + range.tokens,
            uint64_t{l} * range.tokens * record_bytes_);
  }
  if (absl::Status s = arena_->memory().Read(runs_, out.data()); !s.ok()) return s;
  Touch(chunk, now);
  return absl::OkStatus();
}

std::optional<ChunkInfo> LatentStore::Stat(const ChunkId& id, absl::Time now) const {
  const Chunk* chunk = Find(id);
  if (chunk == nullptr) return std::nullopt;
  return ChunkInfo{.id = id,
                   .sealed = chunk->sealed,
                   .tokens = chunk->sealed ? chunk->sealed_tokens : chunk->complete_tokens(),
                   .pages = chunk->page_count,
                   .leases = static_cast<uint32_t>(chunk->leases.size()),
                   .idle = now - chunk->last_use,
                   .checksum = chunk->checksum};
}

ChunkListing LatentStore::List(std::string_view hex_prefix, uint32_t limit, absl::Time now) const {
  ChunkListing listing;
  if (hex_prefix.size() > 32) return listing;
  std::string low(hex_prefix), high(hex_prefix);
  low.resize(32, '0');
  high.resize(32, 'f');
  const auto first = ParseChunkId(low), last = ParseChunkId(high);
  if (!first.ok() || !last.ok()) return listing;
  if (hex_prefix.empty()) listing.total = ordered_.size();
  auto it = ordered_.lower_bound(*first);
  const auto at_end = [&] { return it == ordered_.end() || *last < *it; };
  for (; !at_end() && listing.chunks.size() < limit; ++it) {
    listing.chunks.push_back(*Stat(*it, now));
  }
  listing.more = !at_end();
  return listing;
}

StoreCounts LatentStore::counts() const {
  return {.pages_total = arena_->pages_total(),
          .pages_free = arena_->pages_free(),
          .chunks_open = open_,
          .chunks_sealed = chunks_.size() - open_,
          .chunks_pinned = held_,
          .chunks_dropped = dropped_.size(),
          .evicted_chunks = evicted_,
          .discarded_chunks = discarded_,
          .published_bytes = published_bytes_,
          .released_chunks = released_,
          .chunks_quarantined = quarantined_.size(),
          .corrupt_chunks = corrupt_,
          .scrubbed_bytes = scrubbed_bytes_};
}

}  // namespace latentd
