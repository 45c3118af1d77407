#include "transport/wire_build.h"

#include <cstring>
#include <string>

#include "catch2/catch.hpp"
#include "transport/errors.h"

namespace latentd {
namespace {

template <typename Header>
Header HeaderOf(const MessageBytes& bytes) {
  Header header;
  REQUIRE(bytes.size() >= sizeof(header));
  std::memcpy(&header, bytes.data(), sizeof(header));
  return header;
}

std::string ErrorText(const MessageBytes& bytes) {
  const auto header = HeaderOf<wire::ReplyHeader>(bytes);
  return {reinterpret_cast<const char*>(bytes.data()) + header.header_bytes, header.meta_bytes};
}

TEST_CASE("a builder sets what is the protocol's and leaves what is the caller's") {
  wire::RequestHeader header = {};
  header.magic = 1;
  header.opcode = 99;
  header.request_id = 7;
  header.deadline_us = 8;
  header.flags = wire::kBestEffort;
  MessageBytes bytes;
  const wire::GroupEntry group = {.tokens = 1};
  const wire::ChunkEntry chunks[2] = {};
  BuildAttend(header, {.heads = 1, .tokens = 1, .groups = 77, .chunks = 88}, {&group, 1}, chunks,
              &bytes);
  const auto built = HeaderOf<wire::RequestHeader>(bytes);
  CHECK(built.magic == wire::kMagic);
  CHECK(built.version == wire::kVersion);
  CHECK(built.header_bytes == sizeof(wire::RequestHeader));
  CHECK(built.opcode == static_cast<uint16_t>(wire::Opcode::kAttend));
  CHECK(built.meta_bytes == 24 + 24 + 2 * 24);
  CHECK(bytes.size() == sizeof(wire::RequestHeader) + built.meta_bytes);
  CHECK(built.request_id == 7);
  CHECK(built.deadline_us == 8);
  CHECK(built.flags == wire::kBestEffort);
  wire::AttendBody body;
  std::memcpy(&body, bytes.data() + sizeof(built), sizeof(body));
  CHECK(body.groups == 1);
  CHECK(body.chunks == 2);
}

TEST_CASE("a buffer can be used for message after message") {
  MessageBytes bytes;
  const std::vector<wire::IdEntry> ids(100);
  BuildStat({}, ids, &bytes);
  CHECK(bytes.size() == sizeof(wire::RequestHeader) + 8 + 100 * 16);
  BuildPing({}, &bytes);
  CHECK(bytes.size() == sizeof(wire::RequestHeader));
}

TEST_CASE("an error reply carries code, text, retry hint and no payload") {
  wire::ReplyHeader header = {};
  header.request_id = 7;
  header.epoch = 9;
  header.payload_bytes = 100;
  header.flags = wire::kIncomplete;
  MessageBytes bytes;
  BuildErrorReply(wire::Opcode::kAttend, header,
                  WithRetryAfter(WrongEpochError("table 9 is newer"), absl::Microseconds(250)),
                  &bytes);
  const auto built = HeaderOf<wire::ReplyHeader>(bytes);
  CHECK(built.code == static_cast<uint16_t>(wire::Code::kWrongEpoch));
  CHECK(built.retry_after_us == 250);
  CHECK(built.payload_bytes == 0);
  CHECK(built.flags == 0);
  CHECK(built.epoch == 9);
  CHECK(built.request_id == 7);
  CHECK(ErrorText(bytes) == "table 9 is newer");
}

TEST_CASE("a retry hint beyond the field is cut to it") {
  MessageBytes bytes;
  BuildErrorReply(wire::Opcode::kPing, {},
                  WithRetryAfter(absl::UnavailableError("x"), absl::Hours(10)), &bytes);
  CHECK(HeaderOf<wire::ReplyHeader>(bytes).retry_after_us == UINT32_MAX);
}

TEST_CASE("a long text is cut between characters") {
  MessageBytes bytes;
  std::string text(kMaxErrorText - 1, 'x');
  text += "\xc3\xa4\xc3\xa4";  // two characters of two bytes across the limit
  BuildErrorReply(wire::Opcode::kPing, {}, absl::InternalError(text), &bytes);
  CHECK(ErrorText(bytes) == std::string(kMaxErrorText - 1, 'x'));
}

TEST_CASE("an OK status never becomes an OK reply by way of an error reply") {
  MessageBytes bytes;
  BuildErrorReply(wire::Opcode::kPing, {}, absl::OkStatus(), &bytes);
  CHECK(HeaderOf<wire::ReplyHeader>(bytes).code == static_cast<uint16_t>(wire::Code::kInternal));
}

TEST_CASE("an ATTEND reply is incomplete exactly when something is missing") {
  MessageBytes bytes;
  wire::ReplyHeader header = {};
  header.flags = wire::kIncomplete;
  BuildAttendReply(header, {}, &bytes);
  CHECK(HeaderOf<wire::ReplyHeader>(bytes).flags == 0);
  const wire::MissingEntry missing = {.chunk_hi = 1};
  BuildAttendReply({}, {&missing, 1}, &bytes);
  CHECK(HeaderOf<wire::ReplyHeader>(bytes).flags == wire::kIncomplete);
}

}  // namespace
}  // namespace latentd
