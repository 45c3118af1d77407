// The data-plane protocol: fixed-layout little-endian structs, one active message each way per
// request.
//
// A message is an active-message header [RequestHeader or ReplyHeader | meta] and one payload
// buffer. Meta is the opcode's body and its arrays, laid out below; the payload is bulk data (rows,
// records, partials) in host or device memory. Nothing here has pointers, varints or padding, so
// that a GPU can read it where it lies.
//
// Growth: a receiver reads the smaller of `header_bytes` and what it knows of the header, and finds
// meta at `header_bytes`; new fields append, and read as 0 where a header ends before them. kVersion
// changes only when that is not enough.
//
// Structs and constants only; see wire_parse.h for the checked way in and wire_build.h for the way
// out.
#ifndef LATENTD_TRANSPORT_WIRE_H_
#define LATENTD_TRANSPORT_WIRE_H_

#include <bit>
#include <cstdint>

namespace latentd::wire {

static_assert(std::endian::native == std::endian::little,
              "the wire is little-endian and read in place");

inline constexpr uint32_t kMagic = 0x4454414c;  // "LATD"
inline constexpr uint16_t kVersion = 1;

// Active-message ids on a UCX worker.
inline constexpr unsigned kRequestAm = 1;
inline constexpr unsigned kReplyAm = 2;

enum class Opcode : uint16_t {
  kHello = 1,    // binds the sending endpoint to its session
  kPublish = 2,  // payload: records [layers][tokens][record]
  kSeal = 3,
  kAttend = 4,  // payload: rows [tokens][heads][row_width] bf16; reply: out [tokens][heads][latent]
                // | lse [tokens][heads]
  kFetch = 5,   // reply payload: records [layers][tokens][record]
  kPin = 6,     // leases on chunks
  kRelease = 7,
  kStat = 8,
  kPing = 9,   // liveness; answered by the lane at once
  kEcho = 10,  // payload any; reply payload of the asked size: measures the wire
  kList = 11,  // a slot's chunks, for a node that joins it
  kDrop = 12,  // an open chunk that the slot's primary gave up; kReplica only
};

enum RequestFlags : uint16_t {
  kOutFp32 = 1 << 0,          // ATTEND: answer out as fp32, not bf16
  kBestEffort = 1 << 1,       // ATTEND: skip what is missing and list it in the reply
  kPayloadChecksum = 1 << 2,  // PUBLISH: payload_checksum is there
  kReplica =
      1 << 3,  // PUBLISH, SEAL, DROP: from the slot's primary to a node that holds or joins it,
               // as `placed` says
  // ATTEND: the requester's rows and answer lie in a device's memory. A hint: an answer from such
  // memory gets there sooner.
  kDeviceMemory = 1 << 4,
  // ATTEND: groups' position_shift is there. A holder that does not know of it must not take it for
  // none.
  kShifted = 1 << 5,
  // STAT: whoever asks had other bytes of the chunks than they were sealed with. The holder reads
  // them again soon.
  kDoubted = 1 << 6,
};

struct RequestHeader {
  static constexpr uint16_t kFirstBytes = 80;  // of the shortest header that is read

  uint32_t magic;
  uint16_t version;
  uint16_t header_bytes;
  uint16_t opcode;
  uint16_t flags;
  uint32_t meta_bytes;
  uint64_t request_id;  // unique per session; a retry on another replica keeps it
  uint64_t token_hi;    // session token
  uint64_t token_lo;
  uint64_t epoch;        // of the routing table the requester used
  uint64_t generation;   // of the holder as the requester knows it; 0 = not known
  uint64_t layout_hash;  // 0 only for HELLO, PING, ECHO
  uint64_t payload_bytes;
  uint32_t deadline_us;  // time left at sending; 0 = already over
  uint32_t reserved;
  uint64_t payload_checksum;  // with kPayloadChecksum: see record_checksum.h, PayloadChecksum
  uint64_t placed;            // with kReplica: the epoch since which the slot has been placed so
};
static_assert(sizeof(RequestHeader) == 96);

// Codes of replies. Values are those of the canonical codes where one fits; the rest are latentd's
// own.
enum class Code : uint16_t {
  kOk = 0,
  kInvalidArgument = 3,
  kDeadlineExceeded = 4,
  kNotFound = 5,
  kAlreadyExists = 6,
  kResourceExhausted = 8,
  kFailedPrecondition = 9,
  kOutOfRange = 11,
  kUnimplemented = 12,
  kInternal = 13,
  kUnavailable = 14,  // draining or stopping: ask another holder
  kDataLoss = 15,
  kUnauthenticated = 16,
  kWrongEpoch = 100,       // ReplyHeader::epoch carries the holder's
  kWrongGeneration = 101,  // the holder's memory is not the one the requester knew
  kLayoutMismatch = 102,
  kNotHolder = 103,  // the requester's table gives the holder a slot that its own does not
};

enum ReplyFlags : uint16_t {
  kIncomplete = 1 << 0,     // best-effort ATTEND left something out: meta lists it
  kReplyChecksum = 1 << 1,  // FETCH: payload_checksum is there
  kMore = 1 << 2,           // LIST: the slot has chunks after the last one listed
};

struct ReplyHeader {
  static constexpr uint16_t kFirstBytes = 72;

  uint32_t magic;
  uint16_t version;
  uint16_t header_bytes;
  uint16_t opcode;
  uint16_t flags;
  uint16_t code;
  uint16_t reserved0;
  uint32_t meta_bytes;      // an error's text (UTF-8), or the opcode's reply body
  uint32_t retry_after_us;  // RESOURCE_EXHAUSTED, UNAVAILABLE: a hint; 0 = none
  uint64_t request_id;
  uint64_t epoch;  // the holder's
  uint64_t payload_bytes;
  uint64_t queue_ns;          // arrival to start of compute
  uint64_t compute_ns;        // of the batch that answered
  uint32_t batch_rows;        // rows that shared that batch
  uint32_t lane_rows_queued;  // load report
  uint64_t payload_checksum;  // with kReplyChecksum
};
static_assert(sizeof(ReplyHeader) == 80);

// Bodies. Arrays follow their body directly, in the order of its counts.

struct HelloReplyBody {
  uint64_t generation;
  uint32_t lane;
  uint32_t reserved;
};
static_assert(sizeof(HelloReplyBody) == 16);

// PUBLISH and FETCH.
struct RangeBody {
  uint64_t chunk_hi;
  uint64_t chunk_lo;
  uint32_t first_layer;
  uint32_t layers;
  uint32_t first_token;
  uint32_t tokens;
};
static_assert(sizeof(RangeBody) == 32);

struct SealBody {
  uint64_t chunk_hi;
  uint64_t chunk_lo;
  uint64_t checksum;  // see record_checksum.h
  uint32_t tokens;
  uint32_t reserved;
};
static_assert(sizeof(SealBody) == 32);

struct AttendBody {
  uint32_t layer;
  float scale;
  uint32_t heads;
  uint32_t tokens;  // query tokens
  uint32_t groups;  // GroupEntry[groups]
  uint32_t chunks;  // then ChunkEntry[chunks]
};
static_assert(sizeof(AttendBody) == 24);

struct GroupEntry {
  uint32_t first_token;
  uint32_t tokens;
  uint32_t first_chunk;
  uint32_t chunks;
  uint32_t causal;  // 0 or 1
  // With kShifted, otherwise 0: the group's chunks are used so many positions after the one that
  // they were made for. The rows' rope parts are turned back by it before they attend
  // (docs/re-adaptation.md). Chunks of one query at several shifts are several groups, each with
  // the query tokens' rows.
  int32_t position_shift;
};
static_assert(sizeof(GroupEntry) == 24);

// Causal clipping by `tokens_after`: see kernels/mla.h, Segment.
struct ChunkEntry {
  uint64_t chunk_hi;
  uint64_t chunk_lo;
  uint32_t visible_tokens;
  uint32_t tokens_after;
};
static_assert(sizeof(ChunkEntry) == 24);

// Best-effort ATTEND's reply meta: MissingEntry[meta_bytes / 24].
struct MissingEntry {
  uint64_t chunk_hi;
  uint64_t chunk_lo;
  uint16_t code;  // kNotFound, kOutOfRange or kDataLoss
  uint16_t reserved0;
  uint32_t reserved1;
};
static_assert(sizeof(MissingEntry) == 24);

// PIN, RELEASE, STAT: ids follow as IdEntry[chunks].
struct IdListBody {
  uint32_t chunks;
  uint32_t lease_ms;  // PIN
};
static_assert(sizeof(IdListBody) == 8);

struct IdEntry {
  uint64_t chunk_hi;
  uint64_t chunk_lo;
};
static_assert(sizeof(IdEntry) == 16);

// STAT's reply meta: one per id asked.
struct StatEntry {
  uint64_t chunk_hi;
  uint64_t chunk_lo;
  uint32_t present;  // 0 or 1
  uint32_t sealed;   // 0 or 1
  uint32_t tokens;   // sealed: its count; open: tokens that have arrived in every layer
  uint32_t pages;
  uint64_t checksum;
};
static_assert(sizeof(StatEntry) == 40);

// LIST: at most `limit` of the slot's chunks whose ids come after `after`, from the start for 0, 0.
// Answered by a holder whose table says that the slot has been where it is since exactly `placed`.
// The reply's meta: ListReplyBody, StatEntry[chunks] in the order of ids, and for each chunk that is
// open uint32_t[layers], the tokens that have arrived in each layer from its start. kMore if that is
// not all. `present` is 0 for a chunk that was sealed so, and whose records are damaged there.
struct ListBody {
  uint64_t placed;
  uint64_t after_hi;
  uint64_t after_lo;
  uint32_t slot;
  uint32_t limit;
};
static_assert(sizeof(ListBody) == 32);

struct ListReplyBody {
  uint32_t chunks;
  uint32_t layers;  // of the layout
};
static_assert(sizeof(ListReplyBody) == 8);

// DROP's body is one IdEntry.

struct EchoBody {
  uint64_t reply_bytes;
};
static_assert(sizeof(EchoBody) == 8);

}  // namespace latentd::wire

#endif  // LATENTD_TRANSPORT_WIRE_H_
