// Splitting an attention query over holders, and putting their partials together again.
//
// A query becomes *pieces*: one for each (group, chunk), each knowing how many of the group's
// visible tokens follow it on whichever holder, so that a holder clips its own part of a causal
// group without knowing the others'. The pieces of one holder are packed into one message, or more
// only where the holder's limits demand it. A message carries the query tokens that its pieces need
// and no others. Every piece is in exactly one message that is answered, so every record is
// attended once; when a message fails, its pieces are placed and packed anew.
//
// Pure: values in, values out; any thread.
#ifndef LATENTD_CLIENT_FANOUT_H_
#define LATENTD_CLIENT_FANOUT_H_

#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "absl/status/statusor.h"
#include "client/query.h"
#include "kernels/merge.h"
#include "kernels/mla.h"
#include "routing/ids.h"
#include "transport/wire.h"

namespace latentd {

// Query tokens [first_token, first_token + tokens) attend a chunk; see Segment in kernels/mla.h for
// the rest.
struct Piece {
  uint32_t first_token = 0;
  uint32_t tokens = 0;
  bool causal = false;
  ChunkId chunk;
  uint32_t visible_tokens = 0;
  uint32_t tokens_after = 0;
  int32_t position_shift = 0;
};

struct SplitQuery {
  // By group, then by shift, then in the order of the sequence; none with nothing visible.
  std::vector<Piece> pieces;
  uint32_t tokens = 0;  // of the query
};

// INVALID_ARGUMENT naming what is wrong: no group, a group without tokens, a group that sees more
// tokens than 32 bits count.
absl::StatusOr<SplitQuery> SplitIntoPieces(std::span<const QueryGroup> groups);

// What one message to a holder may carry.
struct MessageBounds {
  uint32_t chunks = 160;
  uint32_t tokens = 128;  // query tokens
  // Query tokens, each times the tokens that it sees. One query token's of one chunk is not cut.
  uint64_t work = std::numeric_limits<uint64_t>::max();
};

// Query tokens [first_token, first_token + tokens) of the query, at `message_token` of the message.
struct MessageRun {
  uint32_t first_token = 0;
  uint32_t tokens = 0;
  uint32_t message_token = 0;
};

struct AttendMessage {
  std::vector<wire::GroupEntry> groups;
  std::vector<wire::ChunkEntry> chunks;
  std::vector<MessageRun> runs;  // one for each group
  std::vector<Piece>
      pieces;  // what the message stands for: those given, cut where the bounds demanded it
  uint32_t tokens = 0;
  uint64_t work = 0;
};

// Packs the pieces of one holder, in order, into few messages. REQUIRES: bounds of at least 1.
std::vector<AttendMessage> PackMessages(std::span<const Piece> pieces, const MessageBounds& bounds);

// One message's answer: out [tokens][heads][latent_width] and lse [tokens][heads] in the order of
// the message.
struct MessagePartial {
  std::span<const MessageRun> runs;
  PartialView partial;
};

// Merges the answers into the query's out and lse; query tokens that no answer covers come out
// empty.
void AssemblePartials(std::span<const MessagePartial> partials, uint32_t tokens, uint32_t heads,
                      uint32_t latent_width, OutFormat out_format, void* out, float* lse);

}  // namespace latentd

#endif  // LATENTD_CLIENT_FANOUT_H_
