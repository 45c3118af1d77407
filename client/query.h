// What a caller asks of the client library and what it is told: plain values and views. A view
// (span) that a call takes must stay valid until the call's callback has run; the library never
// touches it afterwards.
#ifndef LATENTD_CLIENT_QUERY_H_
#define LATENTD_CLIENT_QUERY_H_

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "kernels/mla.h"
#include "routing/ids.h"

namespace latentd {

// Records [layers][tokens][record] of one chunk.
struct ChunkRange {
  ChunkId chunk;
  uint32_t first_layer = 0;
  uint32_t layers = 0;
  uint32_t first_token = 0;
  uint32_t tokens = 0;
};

// Tokens [first, first + tokens) of a chunk.
struct TokenRun {
  uint32_t first = 0;
  uint32_t tokens = 0;

  friend bool operator==(const TokenRun&, const TokenRun&) = default;
};

// What to have in the client's own pages: some tokens of a sealed chunk, as it is or turned to be
// used `position_shift` positions after the one that it was made for.
struct CachePart {
  ChunkId chunk;
  int32_t position_shift = 0;
  std::span<const TokenRun> runs;  // in any order; none: all of its tokens
  uint32_t first_layer = 0;
  uint32_t layers = 0;  // 0: all from first_layer on
};

struct CacheFetchReport {
  uint64_t bytes = 0;       // of records that were fetched
  uint64_t requests = 0;    // that were answered
  uint64_t bytes_sent = 0;  // all attempts, with their headers
  uint64_t bytes_received = 0;
};

// Of the client's own pages.
struct CacheCounters {
  uint64_t capacity_bytes = 0;  // of whole pages
  uint64_t bytes = 0;           // of pages that are taken
  uint64_t peak_bytes = 0;
  uint64_t evictions = 0;        // chunks, at one shift each
  uint64_t fetched_bytes = 0;    // of records, since the beginning
  uint64_t spliced_records = 0;  // turned to another position
  uint64_t hits = 0;             // chunks of queries that were attended here
  uint64_t misses = 0;           // of queries with use_cache that were not
};

// The first `visible_tokens` tokens of a chunk.
struct VisibleChunk {
  ChunkId id;
  uint32_t visible_tokens = 0;
  // How many positions after the one that it was made for the chunk is used here: nothing is copied,
  // the holder turns the rows instead. Exact only if what came before the chunk is the same
  // (docs/re-adaptation.md). Each shift of a group costs its rows once more.
  int32_t position_shift = 0;
};

// Consecutive query tokens that attend the same chunks, given in the order of the sequence. In a
// causal group the last query token sees all that is visible and each earlier one sees one token
// less, counted from the sequence's end.
struct QueryGroup {
  uint32_t tokens = 0;
  bool causal = false;
  std::span<const VisibleChunk> chunks;
};

// A cudaStream_t.
using CudaStream = void*;

// Attention of query tokens in one layer. `groups` and their chunks are read during the call only;
// `rows`, `out` and `lse` are used until the callback.
struct AttendQuery {
  uint32_t layer = 0;
  float scale = 0;                     // of the softmax; the model's, never derived here
  uint32_t heads = 0;                  // 1..kMaxHeads
  std::span<const QueryGroup> groups;  // they cover the query tokens in order
  std::span<const Bf16> rows;          // [tokens][heads][row_width], finite
  OutFormat out_format = OutFormat::kBf16;
  std::span<std::byte> out;  // [tokens][heads][latent_width] of out_format
  std::span<float>
      lse;  // [tokens][heads], natural logarithm; -inf (and out 0) where nothing is attended
  // Skip chunks, and holders, that are missing and say which; otherwise whatever is missing fails
  // the query.
  bool best_effort = false;
  // `rows`, `out` and `lse` are memory of the client's device (ClientOptions::device), aligned to 8
  // bytes, and are used in the order of `stream`: rows are sent once what the stream has been given
  // is done, and the callback runs when the stream has been given the merge that writes out and lse.
  // Nobody looks at the values on the way: a holder's NaN is then one in the answer. Never hedged.
  bool on_device = false;
  CudaStream stream = nullptr;
  // Chunks that lie in the client's own pages (Client::FetchToCache), at the query's shift and with
  // all that is visible, are attended here, meanwhile the holders answer for the others. Exact, and
  // never an error for what is not there: that is asked of its holders. FAILED_PRECONDITION with
  // on_device: the pages are the host's.
  bool use_cache = false;
};

// One request to one holder, as it went.
struct HolderTiming {
  NodeId node;
  uint32_t lane = 0;
  uint64_t rows = 0;
  uint64_t queue_ns = 0;    // at the holder: arrival to start of compute
  uint64_t compute_ns = 0;  // of the holder's batch that answered
  uint64_t rtt_ns = 0;      // from handing the request to the transport to having the whole answer
  uint64_t bytes_sent = 0;
  uint64_t bytes_received = 0;
  uint32_t batch_rows = 0;  // rows, of anybody's, that shared the batch
  bool retried = false;     // an earlier attempt at the same work had failed
};

struct MissingChunk {
  ChunkId id;
  absl::StatusCode reason =
      absl::StatusCode::kUnknown;  // NOT_FOUND, OUT_OF_RANGE or, no holder answering, UNAVAILABLE
};

struct AttendAnswer {
  std::vector<HolderTiming> holders;  // one for each answer that was merged
  std::vector<MissingChunk> missing;  // best effort only
  uint64_t bytes_sent = 0;            // all attempts
  uint64_t bytes_received = 0;
  uint32_t cached_chunks = 0;  // attended here, each time that a group names one
  uint64_t cached_ns = 0;      // that this took, from its first tile to the end of its last
};

struct ChunkStat {
  ChunkId id;
  bool present = false;
  bool sealed = false;
  uint32_t tokens = 0;  // sealed: its count; open: those that have arrived in every layer
  uint32_t pages = 0;
  uint64_t checksum = 0;
};

// Where a chunk goes: its primary holder.
struct Holder {
  NodeId node;
  uint32_t lane = 0;
};

}  // namespace latentd

#endif  // LATENTD_CLIENT_QUERY_H_
