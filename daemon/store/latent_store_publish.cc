// Records on their way into the store: everything is checked first, then room is made, then nothing
// can fail but a device.
#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "daemon/store/chunk.h"
#include "daemon/store/latent_store.h"
#include "kernels/records.h"
#include "transport/record_checksum.h"

namespace latentd {

absl::Status LatentStore::Publish(const ChunkId& id, const RecordRange& range,
                                  std::span<const std::byte> records, const SessionToken& session,
                                  absl::Time now) {
  if (absl::Status s = CheckRange(id, range); !s.ok()) return s;
  const uint64_t expected = uint64_t{range.layers} * range.tokens * record_bytes_;
  if (records.size() != expected) {
    return absl::InvalidArgumentError(absl::StrCat(
        "chunk ", ToString(id), ": ", range.layers, " layers of ", range.tokens, " records are ",
        expected, " bytes in this layout, the payload has ", records.size()));
  }
  Chunk* chunk = Find(id);
  if (absl::Status s = CheckPlace(id, chunk, range); !s.ok()) return s;
  if (absl::Status s = CheckRecords(id, chunk, range, records); !s.ok()) return s;
  if (!new_pieces_.empty()) {
    const uint32_t pages = MissingPages(chunk, range);
    if (absl::Status s = CheckShare(session, pages); !s.ok()) return s;
    if (absl::Status s = MakeRoom(pages, chunk == nullptr, now); !s.ok()) return s;
    const bool is_new = chunk == nullptr;
    if (is_new) chunk = &AddChunk(id);
    AddPages(*chunk, range);
    Charge(*chunk, session, pages);
    if (absl::Status s = CopyIn(*chunk, range, records); !s.ok()) {
      if (is_new) Drop(*chunk);
      return s;
    }
  }
  if (!chunk->sealed) Charge(*chunk, session, 0);
  Touch(*chunk, now);
  return absl::OkStatus();
}

absl::Status LatentStore::CheckRange(const ChunkId& id, const RecordRange& range) const {
  if (range.layers == 0 || range.tokens == 0) {
    return absl::InvalidArgumentError(absl::StrCat("chunk ", ToString(id), ": a range of ",
                                                   range.layers, " layers and ", range.tokens,
                                                   " tokens is empty"));
  }
  if (uint64_t{range.first_layer} + range.layers > options_.layout.layers) {
    return absl::OutOfRangeError(absl::StrCat("chunk ", ToString(id), ": layers from ",
                                              range.first_layer, ", ", range.layers,
                                              " of them; the layout has ", options_.layout.layers));
  }
  const uint64_t capacity =
      std::min(uint64_t{arena_->pages_total()} * kPageTokens, uint64_t{1} << 31);
  if (uint64_t{range.first_token} + range.tokens > capacity) {
    return absl::OutOfRangeError(absl::StrCat("chunk ", ToString(id), ": tokens from ",
                                              range.first_token, ", ", range.tokens,
                                              " of them; the whole cache holds ", capacity));
  }
  return absl::OkStatus();
}

absl::Status LatentStore::CheckPlace(const ChunkId& id, const Chunk* chunk,
                                     const RecordRange& range) const {
  const uint32_t end = range.first_token + range.tokens;
  if (chunk != nullptr && chunk->sealed && end > chunk->sealed_tokens) {
    return absl::FailedPreconditionError(absl::StrCat("chunk ", ToString(id), " is sealed with ",
                                                      chunk->sealed_tokens, " tokens: token ",
                                                      end - 1, " cannot be added"));
  }
  const uint32_t have = chunk == nullptr ? 0 : chunk->end_token();
  if (range.first_token > have && range.first_token - have > kMaxHoleTokens) {
    return absl::OutOfRangeError(absl::StrCat(
        "chunk ", ToString(id), ": token ", range.first_token, " is ", range.first_token - have,
        " tokens ahead of what has arrived; at most ", kMaxHoleTokens, " may be left out"));
  }
  if (chunk == nullptr) return absl::OkStatus();
  for (uint32_t l = range.first_layer; l < range.first_layer + range.layers; ++l) {
    const ArrivedTokens& arrived = chunk->layers[l];
    if (arrived.runs() >= kMaxRuns && arrived.WouldAddRun(range.first_token, end)) {
      return absl::OutOfRangeError(absl::StrCat("chunk ", ToString(id), " layer ", l,
                                                " has arrived in ", arrived.runs(),
                                                " separate runs; fill gaps before adding more"));
    }
  }
  return absl::OkStatus();
}

absl::Status LatentStore::CheckRecords(const ChunkId& id, const Chunk* chunk,
                                       const RecordRange& range,
                                       std::span<const std::byte> records) {
  new_pieces_.clear();
  const uint32_t end = range.first_token + range.tokens;
  for (uint32_t l = 0; l < range.layers; ++l) {
    const uint32_t layer = range.first_layer + l;
    const std::byte* source = records.data() + uint64_t{l} * range.tokens * record_bytes_;
    pieces_.clear();
    if (chunk == nullptr) {
      pieces_.push_back({range.first_token, end, false});
    } else {
      chunk->layers[layer].Cut(range.first_token, end, pieces_);
    }
    for (const ArrivedTokens::Piece& piece : pieces_) {
      const std::byte* from = source + (piece.first - range.first_token) * record_bytes_;
      absl::Status s = piece.arrived ? CheckSamePiece(*chunk, layer, piece, from)
                                     : CheckNewPiece(id, layer, piece, from);
      if (!s.ok()) return s;
      if (!piece.arrived) new_pieces_.push_back({layer, piece});
    }
  }
  return absl::OkStatus();
}

absl::Status LatentStore::CheckNewPiece(const ChunkId& id, uint32_t layer,
                                        const ArrivedTokens::Piece& piece,
                                        const std::byte* records) const {
  const auto bad = FirstNonFiniteRecord(options_.layout.geometry(), options_.layout.record_format,
                                        records, piece.end - piece.first);
  if (!bad.has_value()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("chunk ", ToString(id), ": the record of layer ",
                                                 layer, ", token ", piece.first + *bad,
                                                 " has a value that is not finite"));
}

absl::Status LatentStore::CheckSamePiece(const Chunk& chunk, uint32_t layer,
                                         const ArrivedTokens::Piece& piece,
                                         const std::byte* records) {
  runs_.clear();
  AddRuns(chunk, layer, piece.first, piece.end, 0);
  const auto other = arena_->memory().FirstDifference(runs_, records);
  if (!other.ok()) return other.status();
  if (!other->has_value()) return absl::OkStatus();
  return absl::AlreadyExistsError(
      absl::StrCat("chunk ", ToString(chunk.id), ": the record of layer ", layer, ", token ",
                   piece.first + **other / record_bytes_, " is here already, with other bytes"));
}

uint32_t LatentStore::MissingPages(const Chunk* chunk, const RecordRange& range) const {
  const uint32_t first = range.first_token / kPageTokens;
  const uint32_t last = (range.first_token + range.tokens - 1) / kPageTokens;
  uint32_t missing = 0;
  for (uint32_t page = first; page <= last; ++page) {
    missing += chunk == nullptr || chunk->pages[page] == PageTable::kNoPage;
  }
  return missing;
}

// An open chunk is never evicted, so that without a bound one session could take the whole cache.
absl::Status LatentStore::CheckShare(const SessionToken& session, uint32_t pages) const {
  if (session == kNodeSession) return absl::OkStatus();
  const auto it = sessions_.find(session);
  const uint64_t has = it == sessions_.end() ? 0 : it->second.open_pages;
  if (pages == 0 || has + pages <= options_.max_open_pages) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat("the session has ", has, " pages in open chunks and this publish needs ", pages,
                   " more; its limit is ", options_.max_open_pages, " (of ", arena_->page_bytes(),
                   " bytes each, data.limits.open_bytes_per_session): seal what is complete"));
}

Chunk& LatentStore::AddChunk(const ChunkId& id) {
  auto owned = std::make_unique<Chunk>();
  Chunk& chunk = *owned;
  chunk.id = id;
  chunk.serial = next_serial_++;
  chunk.layers.resize(options_.layout.layers);
  chunk.place = others_.insert(others_.end(), &chunk);
  chunks_.emplace(id, std::move(owned));
  ordered_.insert(id);
  ++open_;
  return chunk;
}

void LatentStore::AddPages(Chunk& chunk, const RecordRange& range) {
  const uint32_t first = range.first_token / kPageTokens;
  const uint32_t last = (range.first_token + range.tokens - 1) / kPageTokens;
  chunk.pages.Grow(last + 1);
  if (chunk.pins == 0) chunk.pages.DropRetired();
  for (uint32_t page = first; page <= last; ++page) {
    if (chunk.pages[page] != PageTable::kNoPage) continue;
    chunk.pages.Set(page, *arena_->Allocate());  // MakeRoom has seen to it
    ++chunk.page_count;
  }
}

absl::Status LatentStore::CopyIn(Chunk& chunk, const RecordRange& range,
                                 std::span<const std::byte> records) {
  const auto skipped = [&](const NewPiece& piece) {
    return (uint64_t{piece.layer - range.first_layer} * range.tokens +
            (piece.tokens.first - range.first_token)) *
           record_bytes_;
  };
  runs_.clear();
  for (const NewPiece& piece : new_pieces_) {
    AddRuns(chunk, piece.layer, piece.tokens.first, piece.tokens.end, skipped(piece));
  }
  if (absl::Status s = arena_->memory().Write(runs_, records.data()); !s.ok()) return s;
  for (const NewPiece& piece : new_pieces_) {
    const auto [first, end, arrived] = piece.tokens;
    const uint64_t bytes = (end - first) * record_bytes_;
    chunk.checksum += RangeChecksum(records.subspan(skipped(piece), bytes), record_bytes_,
                                    piece.layer, 1, first, end - first);
    chunk.layers[piece.layer].Add(first, end);
    published_bytes_ += bytes;
  }
  return absl::OkStatus();
}

}  // namespace latentd
