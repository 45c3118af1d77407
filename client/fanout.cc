#include "client/fanout.h"

#include <algorithm>
#include <limits>

#include "absl/container/inlined_vector.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace latentd {
namespace {

constexpr uint64_t kMost = std::numeric_limits<uint32_t>::max();

// The part of a piece that query tokens [first, first + tokens) of it attend. In a causal group the
// cut-off end counts: the tokens that the part's last query token must not see are taken from what
// follows the chunk, then from the chunk.
Piece CutTokens(const Piece& piece, uint32_t first, uint32_t tokens) {
  Piece part = piece;
  part.first_token = piece.first_token + first;
  part.tokens = tokens;
  if (!piece.causal) return part;
  const uint32_t unseen = piece.tokens - (first + tokens);
  const uint32_t from_after = std::min(unseen, piece.tokens_after);
  part.tokens_after = piece.tokens_after - from_after;
  part.visible_tokens -= std::min(part.visible_tokens, unseen - from_after);
  return part;
}

bool SameRun(const Piece& a, const Piece& b) {
  return a.first_token == b.first_token && a.tokens == b.tokens && a.causal == b.causal &&
         a.position_shift == b.position_shift;
}

uint64_t Work(const Piece& piece) { return uint64_t{piece.tokens} * piece.visible_tokens; }

// Whether `piece` still fits behind what `message` has. The last piece tells whether it shares a
// group.
bool Fits(const AttendMessage& message, const Piece& piece, const MessageBounds& bounds) {
  if (message.pieces.empty()) return true;
  if (message.chunks.size() >= bounds.chunks) return false;
  if (message.work > bounds.work || Work(piece) > bounds.work - message.work) return false;
  return SameRun(message.pieces.back(), piece) || bounds.tokens - message.tokens >= piece.tokens;
}

void Append(const Piece& piece, AttendMessage& message) {
  if (message.pieces.empty() || !SameRun(message.pieces.back(), piece)) {
    message.runs.push_back({piece.first_token, piece.tokens, message.tokens});
    message.groups.push_back({.first_token = message.tokens,
                              .tokens = piece.tokens,
                              .first_chunk = static_cast<uint32_t>(message.chunks.size()),
                              .chunks = 0,
                              .causal = piece.causal ? 1u : 0u,
                              .position_shift = piece.position_shift});
    message.tokens += piece.tokens;
  }
  message.work += Work(piece);
  ++message.groups.back().chunks;
  message.chunks.push_back({.chunk_hi = piece.chunk.hi,
                            .chunk_lo = piece.chunk.lo,
                            .visible_tokens = piece.visible_tokens,
                            .tokens_after = piece.tokens_after});
  message.pieces.push_back(piece);
}

// Pieces within the bounds, those of one run still side by side.
std::vector<Piece> CutLongPieces(std::span<const Piece> pieces, const MessageBounds& bounds) {
  std::vector<Piece> cut;
  for (size_t begin = 0; begin < pieces.size();) {
    size_t end = begin + 1;
    while (end < pieces.size() && SameRun(pieces[begin], pieces[end])) ++end;
    uint32_t longest = 1;
    for (size_t i = begin; i < end; ++i) longest = std::max(longest, pieces[i].visible_tokens);
    const auto most =
        static_cast<uint32_t>(std::clamp<uint64_t>(bounds.work / longest, 1, bounds.tokens));
    for (uint32_t first = 0; first < pieces[begin].tokens; first += most) {
      for (size_t i = begin; i < end; ++i) {
        const Piece part = CutTokens(pieces[i], first, std::min(most, pieces[i].tokens - first));
        if (part.visible_tokens > 0) cut.push_back(part);
      }
    }
    begin = end;
  }
  return cut;
}

}  // namespace

absl::StatusOr<SplitQuery> SplitIntoPieces(std::span<const QueryGroup> groups) {
  if (groups.empty()) return absl::InvalidArgumentError("groups: got 0, expected at least 1");
  SplitQuery split;
  uint64_t tokens = 0;
  for (size_t g = 0; g < groups.size(); ++g) {
    const QueryGroup& group = groups[g];
    if (group.tokens == 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("group ", g, ": tokens: got 0, expected at least 1"));
    }
    uint64_t after = 0;
    for (const VisibleChunk& chunk : group.chunks) after += chunk.visible_tokens;
    if (after > kMost || tokens + group.tokens > kMost) {
      return absl::InvalidArgumentError(absl::StrCat("group ", g, ": too many tokens"));
    }
    const size_t first_piece = split.pieces.size();
    for (const VisibleChunk& chunk : group.chunks) {
      after -= chunk.visible_tokens;
      if (chunk.visible_tokens == 0) continue;
      split.pieces.push_back({static_cast<uint32_t>(tokens), group.tokens, group.causal, chunk.id,
                              chunk.visible_tokens, static_cast<uint32_t>(after),
                              chunk.position_shift});
    }
    // Side by side, those of one shift share their rows.
    std::stable_sort(
        split.pieces.begin() + static_cast<ptrdiff_t>(first_piece), split.pieces.end(),
        [](const Piece& a, const Piece& b) { return a.position_shift < b.position_shift; });
    tokens += group.tokens;
  }
  split.tokens = static_cast<uint32_t>(tokens);
  return split;
}

std::vector<AttendMessage> PackMessages(std::span<const Piece> pieces,
                                        const MessageBounds& bounds) {
  std::vector<Piece> cut;
  const auto too_long = [&](const Piece& piece) {
    return piece.tokens > bounds.tokens || Work(piece) > bounds.work;
  };
  if (std::any_of(pieces.begin(), pieces.end(), too_long)) {
    cut = CutLongPieces(pieces, bounds);
    pieces = cut;
  }
  std::vector<AttendMessage> messages;
  for (const Piece& piece : pieces) {
    if (messages.empty() || !Fits(messages.back(), piece, bounds)) messages.emplace_back();
    Append(piece, messages.back());
  }
  return messages;
}

void AssemblePartials(std::span<const MessagePartial> partials, uint32_t tokens, uint32_t heads,
                      uint32_t latent_width, OutFormat out_format, void* out, float* lse) {
  // Between two neighbouring cuts the set of answers is the same for every query token.
  absl::InlinedVector<uint32_t, 16> cuts = {0, tokens};
  for (const MessagePartial& message : partials) {
    for (const MessageRun& run : message.runs) {
      cuts.push_back(run.first_token);
      cuts.push_back(run.first_token + run.tokens);
    }
  }
  std::sort(cuts.begin(), cuts.end());
  cuts.erase(std::unique(cuts.begin(), cuts.end()), cuts.end());

  absl::InlinedVector<PartialView, 16> inputs;
  for (size_t c = 0; c + 1 < cuts.size(); ++c) {
    inputs.clear();
    for (const MessagePartial& message : partials) {
      const uint64_t value_bytes = OutValueBytes(message.partial.out_format);
      for (const MessageRun& run : message.runs) {
        if (cuts[c] < run.first_token || cuts[c] >= run.first_token + run.tokens) continue;
        const uint64_t row = uint64_t{run.message_token + (cuts[c] - run.first_token)} * heads;
        inputs.push_back(
            {static_cast<const std::byte*>(message.partial.out) + row * latent_width * value_bytes,
             message.partial.lse + row, message.partial.out_format});
      }
    }
    const uint64_t row = uint64_t{cuts[c]} * heads;
    MergePartials({inputs.data(), inputs.size()}, uint64_t{cuts[c + 1] - cuts[c]} * heads,
                  latent_width, out_format,
                  static_cast<std::byte*>(out) + row * latent_width * OutValueBytes(out_format),
                  lse + row);
  }
}

}  // namespace latentd
