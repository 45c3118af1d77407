#include "transport/wire_parse.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "catch2/catch.hpp"
#include "transport/errors.h"
#include "transport/wire_build.h"
#include "transport/wire_corpus.h"
#include "transport/wire_sizes.h"

namespace latentd {
namespace {

CorpusMessage Find(const std::string& name) {
  for (CorpusMessage& message : MakeCorpus()) {
    if (message.name == name) return message;
  }
  FAIL("no message " << name);
  return {};
}

absl::StatusOr<ParsedRequest> ParseNamed(const std::string& name,
                                         const WireLimits& limits = CorpusLimits(),
                                         MessageOrigin* origin = nullptr) {
  const CorpusMessage message = Find(name);
  return ParseRequest(message.header, message.payload_bytes, limits, origin);
}

std::string ErrorOf(const std::string& name) {
  const auto request = ParseNamed(name);
  return request.ok() ? "" : std::string(request.status().message());
}

bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_CASE("every right message of the corpus parses and every wrong one is refused") {
  for (const CorpusMessage& message : MakeCorpus()) {
    INFO(message.name);
    const absl::Status status =
        message.kind == MessageKind::kRequest
            ? ParseRequest(message.header, message.payload_bytes, CorpusLimits()).status()
            : ParseReply(message.header, message.payload_bytes, CorpusLimits()).status();
    INFO(status);
    CHECK(status.ok() == message.valid);
  }
}

TEST_CASE("an ATTEND comes out as it was built") {
  const auto request = ParseNamed("attend");
  REQUIRE(request.ok());
  CHECK(request->opcode() == wire::Opcode::kAttend);
  CHECK(request->header.request_id == 77);
  CHECK(request->header.deadline_us == 50'000);
  const auto& attend = std::get<AttendRequest>(request->body);
  CHECK(attend.out_fp32);
  CHECK(attend.best_effort);
  CHECK(attend.attend.layer == 5);
  CHECK(attend.attend.scale == 0.1F);
  REQUIRE(attend.groups.size() == 2);
  CHECK(attend.groups[1].first_token == 2);
  REQUIRE(attend.chunks.size() == 3);
  CHECK(attend.chunks[2].visible_tokens == 7);
}

TEST_CASE("a group's shift needs its flag, which a peer that knows no shifts refuses") {
  const auto shifted = ParseNamed("attend-shifted");
  REQUIRE(shifted.ok());
  CHECK((shifted->header.flags & wire::kShifted) != 0);
  const auto& attend = std::get<AttendRequest>(shifted->body);
  CHECK(attend.groups[0].position_shift == 0);
  CHECK(attend.groups[1].position_shift == -4096);
  CHECK(ErrorOf("attend-group-shift") ==
        "attend.groups[0].position_shift: got -1, expected 0 without the flag for shifts");
  const auto plain = ParseNamed("attend");
  REQUIRE(plain.ok());
  CHECK((plain->header.flags & wire::kShifted) == 0);
  for (const wire::GroupEntry& group : std::get<AttendRequest>(plain->body).groups) {
    CHECK(group.position_shift == 0);
  }
}

TEST_CASE("a longer header of a newer peer is read up to what is known") {
  const auto request = ParseNamed("attend-longer-header");
  REQUIRE(request.ok());
  CHECK(request->header.header_bytes == sizeof(wire::RequestHeader) + 8);
  CHECK(std::get<AttendRequest>(request->body).chunks.size() == 3);
  const CorpusMessage message = Find("reply-attend-incomplete-longer-header");
  const auto reply = ParseReply(message.header, message.payload_bytes, CorpusLimits());
  REQUIRE(reply.ok());
  CHECK(std::get<AttendReply>(reply->body).missing[0].chunk_lo == 2);
}

TEST_CASE("a shorter header of an older peer is read, and what it lacks is 0") {
  const auto request = ParseNamed("publish-older-header");
  REQUIRE(request.ok());
  CHECK(request->header.deadline_us == 50'000);
  CHECK(request->header.payload_checksum == 0);
  CHECK(request->header.placed == 0);
  CHECK(std::get<PublishRequest>(request->body).range.tokens == 10);
  const CorpusMessage message = Find("reply-attend-incomplete-older-header");
  const auto reply = ParseReply(message.header, message.payload_bytes, CorpusLimits());
  REQUIRE(reply.ok());
  CHECK(reply->header.batch_rows == 16);
  CHECK(std::get<AttendReply>(reply->body).missing[0].chunk_lo == 2);
}

TEST_CASE("a flag that says that a field is there needs a header that has it") {
  CHECK(ErrorOf("publish-replica-older-header") ==
        "header_bytes: got 88, expected at least 96 with the replica flag");
  CHECK(Contains(ErrorOf("drop-unflagged"), "only a slot's primary sends DROP"));
}

TEST_CASE("what a primary sends to replicas comes out as it was built") {
  const auto publish = ParseNamed("publish-replica");
  REQUIRE(publish.ok());
  CHECK(publish->replica());
  CHECK(publish->header.placed == 2);
  CHECK(publish->header.payload_checksum == 11);
  const auto drop = ParseNamed("drop");
  REQUIRE(drop.ok());
  CHECK(drop->replica());
  CHECK(std::get<DropRequest>(drop->body).chunk.chunk_lo == 2);
  const auto list = ParseNamed("list");
  REQUIRE(list.ok());
  CHECK(std::get<ListRequest>(list->body).list.slot == 5);
  CHECK(std::get<ListRequest>(list->body).list.limit == 100);
}

TEST_CASE("messages may lie at any address") {
  const CorpusMessage message = Find("attend");
  for (size_t shift = 0; shift < 8; ++shift) {
    std::vector<std::byte> shifted(message.header.size() + shift);
    std::copy(message.header.begin(), message.header.end(),
              shifted.begin() + static_cast<ptrdiff_t>(shift));
    CHECK(ParseRequest(std::span(shifted).subspan(shift), message.payload_bytes, CorpusLimits())
              .ok());
  }
}

TEST_CASE("a refusal names the field, what it got and what was expected") {
  CHECK(ErrorOf("ping-magic") == "magic: got 0xdeadbeef, expected 0x4454414c");
  CHECK(ErrorOf("ping-version") == "version: got 2, expected 1");
  CHECK(ErrorOf("ping-short-header") == "header_bytes: got 79, expected at least 80");
  CHECK(ErrorOf("ping-opcode") == "opcode: got 999, which this build does not know");
  CHECK(ErrorOf("attend-heads") == "attend.heads: got 129, expected at most 128");
  CHECK(ErrorOf("attend-group-gap") ==
        "attend.groups[1].first_token: got 1, expected 2 (groups cover the tokens in order)");
  CHECK(ErrorOf("attend-tokens") ==
        "attend.groups: tokens covered: got 3, expected attend.tokens = 4");
  CHECK(ErrorOf("attend-layer") == "attend.layer: got 61, expected less than the layout's 61");
  CHECK(Contains(ErrorOf("attend-other-payload"), "payload_bytes: got 55296, expected the 55297"));
  CHECK(Contains(ErrorOf("attend-layout"),
                 "layout_hash: got 0x0000000000000001, expected 0x1234567890abcdef"));
}

TEST_CASE("each kind of refusal has its code") {
  const auto code = [](const std::string& name) { return ParseNamed(name).status().code(); };
  CHECK(code("ping-magic") == absl::StatusCode::kInvalidArgument);
  CHECK(code("ping-version") == absl::StatusCode::kUnimplemented);
  CHECK(code("ping-opcode") == absl::StatusCode::kUnimplemented);
  CHECK(code("attend-flags") == absl::StatusCode::kUnimplemented);
  CHECK(code("attend-layer") == absl::StatusCode::kOutOfRange);
  CHECK(code("publish-layers") == absl::StatusCode::kOutOfRange);
  CHECK(code("attend-heads") == absl::StatusCode::kInvalidArgument);
  CHECK(code("fetch-tokens") == absl::StatusCode::kResourceExhausted);
  CHECK(code("attend-no-heads") == absl::StatusCode::kInvalidArgument);
  CHECK(IsLayoutMismatch(ParseNamed("attend-layout").status()));
}

TEST_CASE("a refused request can be answered as soon as its fixed header was readable") {
  MessageOrigin origin;
  CHECK_FALSE(ParseNamed("attend-heads", CorpusLimits(), &origin).ok());
  CHECK(origin.request_id == 77);
  CHECK(origin.opcode == static_cast<uint16_t>(wire::Opcode::kAttend));
  for (const char* name : {"ping-magic", "ping-cut", "ping-empty"}) {
    MessageOrigin none;
    CHECK_FALSE(ParseNamed(name, CorpusLimits(), &none).ok());
    CHECK_FALSE(none.request_id.has_value());
  }
}

TEST_CASE("HELLO, PING and ECHO need no layout; the others do") {
  WireLimits limits = CorpusLimits();
  limits.layout_hash = 999;
  for (const char* name : {"hello", "ping", "echo"}) CHECK(ParseNamed(name, limits).ok());
  for (const char* name : {"publish", "seal", "attend", "fetch", "pin", "release", "stat"}) {
    CHECK(IsLayoutMismatch(ParseNamed(name, limits).status()));
  }
}

TEST_CASE("sizes follow the receiver's geometry and format") {
  WireLimits limits = CorpusLimits();
  limits.geometry = {.latent_width = 256, .rope_width = 64};
  CHECK_FALSE(ParseNamed("attend", limits).ok());
  limits = CorpusLimits();
  limits.format = RecordFormat::kFp8;
  CHECK_FALSE(ParseNamed("publish", limits).ok());
  CHECK(ParseNamed("attend", limits).ok());
}

TEST_CASE("a bound of the receiver is a bound of the request") {
  const auto code = [](const char* name, void (*edit)(WireLimits*)) {
    WireLimits limits = CorpusLimits();
    edit(&limits);
    return ParseNamed(name, limits).status().code();
  };
  constexpr auto kTooMuch = absl::StatusCode::kResourceExhausted;
  CHECK(code("attend", [](WireLimits* l) { l->max_query_tokens = 2; }) == kTooMuch);
  CHECK(code("attend", [](WireLimits* l) { l->max_groups = 1; }) == kTooMuch);
  CHECK(code("attend", [](WireLimits* l) { l->max_chunks = 2; }) == kTooMuch);
  CHECK(code("attend", [](WireLimits* l) { l->max_payload_bytes = 3 * 16 * 1152; }) == kTooMuch);
  CHECK(code("stat", [](WireLimits* l) { l->max_chunks = 1; }) == kTooMuch);
  CHECK(code("fetch", [](WireLimits* l) { l->max_payload_bytes = 100; }) == kTooMuch);
  CHECK(code("publish", [](WireLimits* l) { l->max_payload_bytes = 100; }) == kTooMuch);
  CHECK(code("echo", [](WireLimits* l) { l->max_echo_bytes = 150; }) == kTooMuch);
}

TEST_CASE("an OK reply carries its opcode's body") {
  const auto parse = [](const char* name) {
    const CorpusMessage message = Find(name);
    auto reply = ParseReply(message.header, message.payload_bytes, CorpusLimits());
    REQUIRE(reply.ok());
    return *std::move(reply);
  };
  CHECK(std::get<HelloReply>(parse("reply-hello").body).hello.generation == 5);
  CHECK(std::get<StatReply>(parse("reply-stat").body).entries.size() == 2);
  CHECK(std::get<AttendReply>(parse("reply-attend").body).missing.empty());
  CHECK(std::holds_alternative<PlainReply>(parse("reply-fetch").body));
  CHECK(parse("reply-fetch-checksum").header.payload_checksum == 11);
  CHECK(std::get<ListReply>(parse("reply-list").body).entries.size() == 2);
  CHECK(std::get<ListReply>(parse("reply-list").body).layer_tokens ==
        std::vector<std::vector<uint32_t>>{{}, {64, 64, 10}});
  CHECK(std::get<ListReply>(parse("reply-list").body).more);
  CHECK_FALSE(std::get<ListReply>(parse("reply-list-none").body).more);
  CHECK(parse("reply-fetch").status().ok());
}

TEST_CASE("an error reply becomes the holder's status again, retry hint included") {
  const CorpusMessage message = Find("reply-error");
  const auto reply = ParseReply(message.header, 0, CorpusLimits());
  REQUIRE(reply.ok());
  const absl::Status status = reply->status();
  CHECK(status.code() == absl::StatusCode::kResourceExhausted);
  CHECK(status.message() == "full");
  CHECK(RetryAfter(status) == absl::Milliseconds(2));
}

TEST_CASE("an error reply may answer a request whose opcode nobody knows") {
  MessageBytes bytes;
  BuildErrorReply(static_cast<wire::Opcode>(999), {}, absl::UnimplementedError("opcode"), &bytes);
  const auto reply = ParseReply({bytes.data(), bytes.size()}, 0, CorpusLimits());
  REQUIRE(reply.ok());
  CHECK(reply->code() == wire::Code::kUnimplemented);
}

TEST_CASE("an answer fits its request or is refused") {
  const auto request = ParseNamed("stat");
  REQUIRE(request.ok());
  const CorpusMessage message = Find("reply-stat");
  auto reply = ParseReply(message.header, 0, CorpusLimits());
  REQUIRE(reply.ok());
  CHECK(CheckAnswers(*reply, *request, CorpusLimits()).ok());
  SECTION("another id") { reply->header.request_id++; }
  SECTION("another opcode") { reply->header.opcode++; }
  SECTION("another count") { std::get<StatReply>(reply->body).entries.pop_back(); }
  SECTION("another payload") { reply->header.payload_bytes = 1; }
  CHECK_FALSE(CheckAnswers(*reply, *request, CorpusLimits()).ok());
}

TEST_CASE("an incomplete answer is refused unless best effort was asked") {
  auto request = ParseNamed("attend");
  REQUIRE(request.ok());
  CorpusMessage message = Find("reply-attend-incomplete");
  message.payload_bytes = ReplyPayloadBytes(*request, CorpusLimits());
  std::memcpy(message.header.data() + offsetof(wire::ReplyHeader, payload_bytes),
              &message.payload_bytes, sizeof(uint64_t));
  const auto reply = ParseReply(message.header, message.payload_bytes, CorpusLimits());
  REQUIRE(reply.ok());
  CHECK(CheckAnswers(*reply, *request, CorpusLimits()).ok());
  request->header.flags &= static_cast<uint16_t>(~wire::kBestEffort);
  CHECK_FALSE(CheckAnswers(*reply, *request, CorpusLimits()).ok());
}

TEST_CASE("payload sizes are those of the protocol, and overflow is seen") {
  const Geometry geometry;
  CHECK(AttendRowsBytes(1, 16, geometry) == 16 * 1152);
  CHECK(AttendReplyBytes(1, 16, geometry, OutFormat::kBf16) == 16 * (1024 + 4));
  CHECK(AttendReplyBytes(1, 16, geometry, OutFormat::kFp32) == 16 * (2048 + 4));
  CHECK(AttendReplyLseOffset(1, 16, geometry, OutFormat::kBf16) == 16 * 1024);
  CHECK(RecordsBytes(61, 64, geometry, RecordFormat::kFp8) == 61 * 64 * 656);
  CHECK_FALSE(AttendRowsBytes(UINT64_MAX / 2, 128, geometry).has_value());
  CHECK_FALSE(RecordsBytes(UINT32_MAX, UINT32_MAX, geometry, RecordFormat::kBf16).has_value());
}

TEST_CASE("every opcode has a name") {
  for (uint16_t opcode = 1; opcode <= 12; ++opcode) {
    CHECK_FALSE(OpcodeName(static_cast<wire::Opcode>(opcode)).empty());
  }
  CHECK(OpcodeName(static_cast<wire::Opcode>(0)).empty());
  CHECK(OpcodeName(static_cast<wire::Opcode>(13)).empty());
}

}  // namespace
}  // namespace latentd
