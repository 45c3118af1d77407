#include "transport/wire_corpus.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <utility>

#include "absl/status/status.h"
#include "transport/errors.h"
#include "transport/wire_sizes.h"

namespace latentd {
namespace {

constexpr uint64_t kLayout = 0x1234567890abcdef;

wire::RequestHeader Request(uint64_t payload_bytes = 0) {
  wire::RequestHeader header = {};
  header.request_id = 77;
  header.token_hi = 1;
  header.token_lo = 2;
  header.epoch = 3;
  header.generation = 4;
  header.layout_hash = kLayout;
  header.payload_bytes = payload_bytes;
  header.deadline_us = 50'000;
  return header;
}

wire::ReplyHeader Reply(uint64_t payload_bytes = 0) {
  wire::ReplyHeader header = {};
  header.request_id = 77;
  header.epoch = 3;
  header.payload_bytes = payload_bytes;
  header.queue_ns = 1000;
  header.compute_ns = 2000;
  header.batch_rows = 16;
  return header;
}

constexpr wire::RangeBody kRange = {
    .chunk_hi = 1, .chunk_lo = 2, .first_layer = 3, .layers = 2, .first_token = 64, .tokens = 10};
constexpr uint64_t kRangeBytes = 2 * 10 * 1152;
constexpr wire::IdEntry kIds[] = {{1, 2}, {3, 4}};
constexpr wire::GroupEntry kGroups[] = {{0, 2, 0, 2, 1, 0}, {2, 1, 1, 2, 0, 0}};
constexpr wire::ChunkEntry kChunks[] = {{1, 2, 100, 28}, {3, 4, 28, 0}, {5, 6, 7, 0}};
constexpr wire::AttendBody kAttend = {.layer = 5, .scale = 0.1F, .heads = 16, .tokens = 3};
constexpr uint64_t kRowsBytes = 3 * 16 * 1152;
constexpr uint64_t kOutBytes = 3 * 16 * (512 * 2 + 4);

class Corpus {
 public:
  using Build = std::function<void(MessageBytes*)>;
  using Edit = std::function<void(std::vector<std::byte>*)>;

  void Add(std::string name, MessageKind kind, uint64_t payload_bytes, const Build& build) {
    MessageBytes bytes;
    build(&bytes);
    messages_.push_back({std::move(name), kind, true, payload_bytes, {bytes.begin(), bytes.end()}});
  }

  // A copy of message `from` with something wrong about it.
  void AddBad(const std::string& from, const std::string& what, const Edit& edit) {
    CorpusMessage bad = Find(from);
    bad.name = from + "-" + what;
    bad.valid = false;
    edit(&bad.header);
    messages_.push_back(std::move(bad));
  }

  // The same, by overwriting one field.
  template <typename T>
  void AddBadField(const std::string& from, const std::string& what, size_t offset, T value) {
    AddBad(from, what, [&](std::vector<std::byte>* bytes) {
      std::memcpy(bytes->data() + offset, &value, sizeof(value));
    });
  }

  void AddBadPayload(const std::string& from, uint64_t payload_bytes) {
    CorpusMessage bad = Find(from);
    bad.name = from + "-other-payload";
    bad.valid = false;
    bad.payload_bytes = payload_bytes;
    messages_.push_back(std::move(bad));
  }

  // A newer peer's header, eight bytes longer.
  void AddLongerHeader(const std::string& from, size_t known_bytes) {
    CorpusMessage longer = Find(from);
    longer.name = from + "-longer-header";
    const auto header_bytes = static_cast<uint16_t>(known_bytes + 8);
    std::memcpy(longer.header.data() + offsetof(wire::RequestHeader, header_bytes), &header_bytes,
                sizeof(header_bytes));
    longer.header.insert(longer.header.begin() + static_cast<ptrdiff_t>(known_bytes), 8,
                         std::byte{0xee});
    messages_.push_back(std::move(longer));
  }

  // An older peer's header, without the fields that came later. Right or not: its flags may say that
  // they are there.
  void AddOlderHeader(const std::string& from, size_t known_bytes, uint16_t older_bytes,
                      bool valid) {
    CorpusMessage older = Find(from);
    older.name = from + "-older-header";
    older.valid = valid;
    std::memcpy(older.header.data() + offsetof(wire::RequestHeader, header_bytes), &older_bytes,
                sizeof(older_bytes));
    older.header.erase(older.header.begin() + older_bytes,
                       older.header.begin() + static_cast<ptrdiff_t>(known_bytes));
    messages_.push_back(std::move(older));
  }

  std::vector<CorpusMessage> Take() { return std::move(messages_); }

 private:
  const CorpusMessage& Find(const std::string& name) const {
    for (const CorpusMessage& message : messages_) {
      if (message.name == name) return message;
    }
    std::abort();
  }

  std::vector<CorpusMessage> messages_;
};

void AddRequests(Corpus* corpus) {
  const auto add = [&](const char* name, uint64_t payload, const Corpus::Build& build) {
    corpus->Add(name, MessageKind::kRequest, payload, build);
  };
  add("hello", 0, [](MessageBytes* out) { BuildHello(Request(), out); });
  add("publish", kRangeBytes,
      [](MessageBytes* out) { BuildPublish(Request(kRangeBytes), kRange, out); });
  add("seal", 0, [](MessageBytes* out) {
    BuildSeal(Request(), {.chunk_hi = 1, .chunk_lo = 2, .checksum = 9, .tokens = 2048}, out);
  });
  add("attend", kRowsBytes, [](MessageBytes* out) {
    wire::RequestHeader header = Request(kRowsBytes);
    header.flags = wire::kOutFp32 | wire::kBestEffort;
    BuildAttend(header, kAttend, kGroups, kChunks, out);
  });
  add("attend-shifted", kRowsBytes, [](MessageBytes* out) {
    wire::GroupEntry groups[2] = {kGroups[0], kGroups[1]};
    groups[1].position_shift = -4096;
    BuildAttend(Request(kRowsBytes), kAttend, groups, kChunks, out);
  });
  add("attend-nothing", 1152, [](MessageBytes* out) {
    const wire::GroupEntry group = {.tokens = 1};
    BuildAttend(Request(1152), {.scale = 1, .heads = 1, .tokens = 1}, {&group, 1}, {}, out);
  });
  add("fetch", 0, [](MessageBytes* out) { BuildFetch(Request(), kRange, out); });
  add("pin", 0, [](MessageBytes* out) { BuildPin(Request(), 5000, kIds, out); });
  add("release", 0, [](MessageBytes* out) { BuildRelease(Request(), kIds, out); });
  add("stat", 0, [](MessageBytes* out) { BuildStat(Request(), kIds, out); });
  add("ping", 0, [](MessageBytes* out) { BuildPing(Request(), out); });
  add("echo", 100, [](MessageBytes* out) { BuildEcho(Request(100), 200, out); });
  add("publish-replica", kRangeBytes, [](MessageBytes* out) {
    wire::RequestHeader header = Request(kRangeBytes);
    header.flags = wire::kPayloadChecksum | wire::kReplica;
    header.payload_checksum = 11;
    header.placed = 2;
    BuildPublish(header, kRange, out);
  });
  add("list", 0, [](MessageBytes* out) {
    BuildList(Request(),
              {.placed = 2, .after_hi = uint64_t{5} << 48, .after_lo = 6, .slot = 5, .limit = 100},
              out);
  });
  add("drop", 0, [](MessageBytes* out) {
    wire::RequestHeader header = Request();
    header.placed = 2;
    BuildDrop(header, kIds[0], out);
  });
  corpus->AddLongerHeader("attend", sizeof(wire::RequestHeader));
  constexpr uint16_t kFirst = wire::RequestHeader::kFirstBytes;
  corpus->AddOlderHeader("attend", sizeof(wire::RequestHeader), kFirst, true);
  corpus->AddOlderHeader("publish", sizeof(wire::RequestHeader), kFirst, true);
  corpus->AddOlderHeader("publish-replica", sizeof(wire::RequestHeader), kFirst + 8, false);
  corpus->AddOlderHeader("drop", sizeof(wire::RequestHeader), kFirst, false);
}

void AddReplies(Corpus* corpus) {
  const auto add = [&](const char* name, uint64_t payload, const Corpus::Build& build) {
    corpus->Add(name, MessageKind::kReply, payload, build);
  };
  add("reply-hello", 0,
      [](MessageBytes* out) { BuildHelloReply(Reply(), {.generation = 5, .lane = 1}, out); });
  add("reply-attend", kOutBytes,
      [](MessageBytes* out) { BuildAttendReply(Reply(kOutBytes), {}, out); });
  add("reply-attend-incomplete", kOutBytes, [](MessageBytes* out) {
    const wire::MissingEntry missing = {.chunk_hi = 1, .chunk_lo = 2, .code = 5};
    BuildAttendReply(Reply(kOutBytes), {&missing, 1}, out);
  });
  add("reply-fetch", kRangeBytes,
      [](MessageBytes* out) { BuildPlainReply(wire::Opcode::kFetch, Reply(kRangeBytes), out); });
  add("reply-publish", 0,
      [](MessageBytes* out) { BuildPlainReply(wire::Opcode::kPublish, Reply(), out); });
  add("reply-stat", 0, [](MessageBytes* out) {
    const wire::StatEntry entries[2] = {{.chunk_hi = 1, .chunk_lo = 2, .present = 1, .sealed = 1},
                                        {.chunk_hi = 3, .chunk_lo = 4}};
    BuildStatReply(Reply(), entries, out);
  });
  add("reply-fetch-checksum", kRangeBytes, [](MessageBytes* out) {
    wire::ReplyHeader header = Reply(kRangeBytes);
    header.flags = wire::kReplyChecksum;
    header.payload_checksum = 11;
    BuildPlainReply(wire::Opcode::kFetch, header, out);
  });
  add("reply-list", 0, [](MessageBytes* out) {
    const wire::StatEntry entries[2] = {{.chunk_hi = 1, .chunk_lo = 2, .present = 1, .sealed = 1},
                                        {.chunk_hi = 1, .chunk_lo = 3, .present = 1}};
    const uint32_t layer_tokens[3] = {64, 64, 10};
    BuildListReply(Reply(), entries, 3, layer_tokens, true, out);
  });
  add("reply-list-none", 0,
      [](MessageBytes* out) { BuildListReply(Reply(), {}, 3, {}, false, out); });
  add("reply-error", 0, [](MessageBytes* out) {
    BuildErrorReply(wire::Opcode::kAttend, Reply(),
                    WithRetryAfter(absl::ResourceExhaustedError("full"), absl::Milliseconds(2)),
                    out);
  });
  corpus->AddLongerHeader("reply-attend-incomplete", sizeof(wire::ReplyHeader));
  constexpr uint16_t kFirst = wire::ReplyHeader::kFirstBytes;
  corpus->AddOlderHeader("reply-attend-incomplete", sizeof(wire::ReplyHeader), kFirst, true);
  corpus->AddOlderHeader("reply-fetch-checksum", sizeof(wire::ReplyHeader), kFirst, false);
}

void AddBadRequests(Corpus* corpus) {
  using H = wire::RequestHeader;
  corpus->AddBad("ping", "empty", [](auto* bytes) { bytes->clear(); });
  corpus->AddBad("ping", "cut", [](auto* bytes) { bytes->resize(79); });
  corpus->AddBad("attend", "cut", [](auto* bytes) { bytes->pop_back(); });
  corpus->AddBad("attend", "grown", [](auto* bytes) { bytes->emplace_back(); });
  corpus->AddBadField("ping", "magic", offsetof(H, magic), uint32_t{0xdeadbeef});
  corpus->AddBadField("ping", "version", offsetof(H, version), uint16_t{2});
  corpus->AddBadField("ping", "short-header", offsetof(H, header_bytes), uint16_t{79});
  corpus->AddBadField("ping", "long-header", offsetof(H, header_bytes), uint16_t{81});
  corpus->AddBadField("ping", "opcode", offsetof(H, opcode), uint16_t{999});
  corpus->AddBadField("ping", "flags", offsetof(H, flags), uint16_t{1});
  corpus->AddBadField("attend", "flags", offsetof(H, flags), uint16_t{0x8000});
  corpus->AddBadField("ping", "meta", offsetof(H, meta_bytes), uint32_t{0xffffffff});
  corpus->AddBadField("attend", "layout", offsetof(H, layout_hash), uint64_t{1});
  corpus->AddBadField("attend", "payload", offsetof(H, payload_bytes), uint64_t{1});
  corpus->AddBadPayload("attend", kRowsBytes + 1);
  corpus->AddBadPayload("publish", 0);

  constexpr size_t kBody = sizeof(H);
  using A = wire::AttendBody;
  const auto attend = [&](const char* what, size_t offset, uint32_t value) {
    corpus->AddBadField("attend", what, kBody + offset, value);
  };
  attend("layer", offsetof(A, layer), 61);
  attend("no-heads", offsetof(A, heads), 0);
  attend("heads", offsetof(A, heads), 129);
  attend("no-tokens", offsetof(A, tokens), 0);
  attend("tokens", offsetof(A, tokens), 4);
  attend("tokens-overflow", offsetof(A, tokens), 0xffffffff);
  attend("no-groups", offsetof(A, groups), 0);
  attend("groups", offsetof(A, groups), 3);
  attend("groups-overflow", offsetof(A, groups), 0xffffffff);
  attend("chunks", offsetof(A, chunks), 4);
  attend("chunks-overflow", offsetof(A, chunks), 0xffffffff);
  corpus->AddBadField("attend", "scale", kBody + offsetof(A, scale),
                      std::numeric_limits<float>::quiet_NaN());
  using G = wire::GroupEntry;
  constexpr size_t kGroup = kBody + sizeof(A);
  corpus->AddBadField("attend", "group-gap", kGroup + sizeof(G), uint32_t{1});
  corpus->AddBadField("attend", "group-empty", kGroup + offsetof(G, tokens), uint32_t{0});
  corpus->AddBadField("attend", "group-long", kGroup + offsetof(G, tokens), uint32_t{0xffffffff});
  corpus->AddBadField("attend", "group-chunk", kGroup + offsetof(G, first_chunk), uint32_t{2});
  corpus->AddBadField("attend", "group-chunk-overflow", kGroup + offsetof(G, first_chunk),
                      uint32_t{0xffffffff});
  corpus->AddBadField("attend", "group-shift", kGroup + offsetof(G, position_shift), int32_t{-1});
  corpus->AddBadField("attend-shifted", "unflagged", offsetof(H, flags), uint16_t{0});
  corpus->AddBadField("attend", "group-causal", kGroup + offsetof(G, causal), uint32_t{2});

  using R = wire::RangeBody;
  corpus->AddBadField("publish", "no-layers", kBody + offsetof(R, layers), uint32_t{0});
  corpus->AddBadField("publish", "no-tokens", kBody + offsetof(R, tokens), uint32_t{0});
  corpus->AddBadField("publish", "layers", kBody + offsetof(R, first_layer), uint32_t{60});
  corpus->AddBadField("publish", "layers-overflow", kBody + offsetof(R, first_layer),
                      uint32_t{0xffffffff});
  corpus->AddBadField("fetch", "tokens-overflow", kBody + offsetof(R, first_token),
                      uint32_t{0xffffffff});
  corpus->AddBadField("fetch", "tokens", kBody + offsetof(R, tokens), uint32_t{0x7fffffff});
  corpus->AddBadField("seal", "no-tokens", kBody + offsetof(wire::SealBody, tokens), uint32_t{0});
  corpus->AddBadField("stat", "no-ids", kBody, uint32_t{0});
  corpus->AddBadField("stat", "ids", kBody, uint32_t{3});
  corpus->AddBadField("pin", "ids-overflow", kBody, uint32_t{0xffffffff});
  using L = wire::ListBody;
  corpus->AddBadField("list", "slot", kBody + offsetof(L, slot), uint32_t{65536});
  corpus->AddBadField("list", "no-limit", kBody + offsetof(L, limit), uint32_t{0});
  corpus->AddBadField("drop", "unflagged", offsetof(H, flags), uint16_t{0});
  corpus->AddBadField("echo", "reply", kBody, uint64_t{1} << 60);
}

void AddBadReplies(Corpus* corpus) {
  using H = wire::ReplyHeader;
  corpus->AddBad("reply-hello", "cut", [](auto* bytes) { bytes->resize(71); });
  corpus->AddBadField("reply-hello", "meta", offsetof(H, meta_bytes), uint32_t{8});
  corpus->AddBadField("reply-hello", "opcode", offsetof(H, opcode), uint16_t{0});
  corpus->AddBadField("reply-hello", "flags", offsetof(H, flags), uint16_t{1});
  corpus->AddBadField("reply-attend", "flags", offsetof(H, flags), uint16_t{1});
  corpus->AddBadField("reply-attend-incomplete", "unflagged", offsetof(H, flags), uint16_t{0});
  corpus->AddBadField("reply-attend", "code-with-payload", offsetof(H, code), uint16_t{13});
  corpus->AddBadField("reply-fetch", "more", offsetof(H, flags), uint16_t{wire::kMore});
  constexpr size_t kBody = sizeof(H);
  using L = wire::ListReplyBody;
  corpus->AddBadField("reply-list", "chunks", kBody + offsetof(L, chunks), uint32_t{3});
  corpus->AddBadField("reply-list", "chunks-overflow", kBody + offsetof(L, chunks),
                      uint32_t{0xffffffff});
  corpus->AddBadField("reply-list", "layers", kBody + offsetof(L, layers), uint32_t{4});
  corpus->AddBadField("reply-list", "no-layers", kBody + offsetof(L, layers), uint32_t{0});
  corpus->AddBadField("reply-list", "layers-overflow", kBody + offsetof(L, layers),
                      uint32_t{0xffffffff});
  corpus->AddBadPayload("reply-fetch", kRangeBytes - 1);
}

}  // namespace

WireLimits CorpusLimits() {
  WireLimits limits;
  limits.layers = 61;
  limits.layout_hash = kLayout;
  return limits;
}

std::vector<CorpusMessage> MakeCorpus() {
  Corpus corpus;
  AddRequests(&corpus);
  AddReplies(&corpus);
  AddBadRequests(&corpus);
  AddBadReplies(&corpus);
  return corpus.Take();
}

std::vector<std::byte> ToFuzzInput(const CorpusMessage& message) {
  constexpr size_t kPrefix = 1 + sizeof(uint64_t);
  std::vector<std::byte> input(kPrefix + message.header.size());
  input[0] = static_cast<std::byte>(message.kind);
  std::memcpy(&input[1], &message.payload_bytes, sizeof(uint64_t));
  std::copy(message.header.begin(), message.header.end(), input.begin() + kPrefix);
  return input;
}

}  // namespace latentd
