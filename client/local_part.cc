#include "client/local_part.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/records.h"

namespace latentd {
namespace {

constexpr MessageBounds kUnbounded = {.chunks = std::numeric_limits<uint32_t>::max(),
                                      .tokens = std::numeric_limits<uint32_t>::max()};

}  // namespace

absl::StatusOr<std::unique_ptr<LocalPart>> LocalPart::Take(const AttendQuery& query,
                                                           ChunkCache& cache,
                                                           std::vector<Piece>* pieces) {
  std::vector<PageCache::Use> uses;
  std::vector<Piece> here, elsewhere;
  for (const Piece& piece : *pieces) {
    PageCache::Use use = cache.pages().Find({piece.chunk, piece.position_shift});
    if (!use || !use.Covers(query.layer, piece.visible_tokens)) {
      elsewhere.push_back(piece);
      continue;
    }
    uses.push_back(std::move(use));
    here.push_back(piece);
    here.back().position_shift = 0;  // its records have been turned
  }
  cache.CountChunks(here.size(), elsewhere.size());
  if (here.empty()) return nullptr;
  *pieces = std::move(elsewhere);
  AttendMessage message = std::move(PackMessages(here, kUnbounded).front());
  std::unique_ptr<LocalPart> part(new LocalPart(query, cache, std::move(uses), std::move(message)));
  if (absl::Status s = part->Start(query); !s.ok()) return s;
  return part;
}

LocalPart::LocalPart(const AttendQuery& query, ChunkCache& cache, std::vector<PageCache::Use> uses,
                     AttendMessage message)
    : cache_(cache),
      uses_(std::move(uses)),
      message_(std::move(message)),
      out_(uint64_t{message_.tokens} * query.heads * cache.layout().latent_width),
      lse_(uint64_t{message_.tokens} * query.heads) {
  for (const wire::GroupEntry& group : message_.groups) {
    groups_.push_back({.first_token = group.first_token,
                       .tokens = group.tokens,
                       .first_segment = group.first_chunk,
                       .segments = group.chunks,
                       .causal = group.causal != 0});
  }
  for (size_t i = 0; i < uses_.size(); ++i) {
    segments_.push_back({.page_ids = uses_[i].page_ids().data(),
                         .visible_tokens = message_.chunks[i].visible_tokens,
                         .tokens_after = message_.chunks[i].tokens_after});
  }
}

absl::Status LocalPart::Start(const AttendQuery& query) {
  const uint32_t row_width = cache_.layout().geometry().row_width();
  const uint64_t token_values = uint64_t{query.heads} * row_width;
  const MessageRun& first = message_.runs.front();
  const Bf16* rows = query.rows.data() + first.first_token * token_values;
  const auto follows = [&](const MessageRun& run) {
    return run.first_token - first.first_token == run.message_token;
  };
  if (!std::all_of(message_.runs.begin(), message_.runs.end(), follows)) {
    rows_.resize(message_.tokens * token_values);
    for (const MessageRun& run : message_.runs) {
      std::copy_n(query.rows.data() + run.first_token * token_values, run.tokens * token_values,
                  rows_.data() + run.message_token * token_values);
    }
    rows = rows_.data();
  }
  if (const auto bad = FirstNonFiniteRow(rows, lse_.size(), row_width); bad.has_value()) {
    return absl::InvalidArgumentError(absl::StrCat("rows: head ", *bad % query.heads, " of token ",
                                                   *bad / query.heads, " is not finite"));
  }
  batch_ = cache_.attention().Start({.layer = query.layer,
                                     .tokens = message_.tokens,
                                     .heads = query.heads,
                                     .scale = query.scale,
                                     .groups = groups_,
                                     .segments = segments_,
                                     .rows = rows,
                                     .out_format = OutFormat::kFp32,
                                     .out = out_.data(),
                                     .lse = lse_.data()});
  return absl::OkStatus();
}

LocalPart::~LocalPart() {
  Cancel();
  while (batch_.has_value()) Work().IgnoreError();
}

absl::StatusOr<bool> LocalPart::Work() {
  if (!batch_.has_value()) return true;
  const std::optional<CachedAttention::Done> done = cache_.attention().Poll(*batch_);
  if (!done.has_value()) return false;
  batch_.reset();
  compute_ns_ = done->compute_ns;
  if (!done->status.ok()) {
    return absl::Status(done->status.code(), absl::StrCat("attending what is cached: ",
                                                          std::string(done->status.message())));
  }
  return true;
}

void LocalPart::Cancel() {
  if (batch_.has_value()) cache_.attention().Cancel(*batch_);
}

}  // namespace latentd
