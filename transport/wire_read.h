// Steps that parsing of requests and of replies share. Internal to wire_parse and wire_parse_reply.
#ifndef LATENTD_TRANSPORT_WIRE_READ_H_
#define LATENTD_TRANSPORT_WIRE_READ_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <type_traits>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "transport/wire.h"

namespace latentd {

inline absl::Status Mismatch(absl::string_view field, uint64_t got, absl::string_view expected) {
  return absl::InvalidArgumentError(absl::StrCat(field, ": got ", got, ", expected ", expected));
}

// Below `least` is the sender's mistake, beyond `most` is more than this receiver takes.
inline absl::Status CheckCount(absl::string_view field, uint64_t got, uint64_t least,
                               uint64_t most) {
  if (got < least) return Mismatch(field, got, absl::StrCat("at least ", least));
  if (got > most) {
    return absl::ResourceExhaustedError(
        absl::StrCat(field, ": got ", got, ", expected at most ", most));
  }
  return absl::OkStatus();
}

// Reads structs off the front of a message. Copies, so alignment never matters.
class WireReader {
 public:
  explicit WireReader(std::span<const std::byte> bytes) : left_(bytes) {}

  template <typename T>
  absl::Status Read(absl::string_view what, T* out) {
    static_assert(std::is_trivially_copyable_v<T>);
    if (left_.size() < sizeof(T)) return Short(what, sizeof(T));
    std::memcpy(out, left_.data(), sizeof(T));
    left_ = left_.subspan(sizeof(T));
    return absl::OkStatus();
  }

  // `count` is bounded by the bytes that are there before anything is allocated.
  template <typename Vector>
  absl::Status ReadArray(absl::string_view what, uint64_t count, Vector* out) {
    using T = typename Vector::value_type;
    static_assert(std::is_trivially_copyable_v<T>);
    if (left_.size() / sizeof(T) < count) {
      return absl::InvalidArgumentError(absl::StrCat(
          what, ": got ", left_.size(), " bytes of meta, expected ", count, " x ", sizeof(T)));
    }
    out->resize(count);
    const size_t bytes = count * sizeof(T);
    if (bytes != 0) std::memcpy(out->data(), left_.data(), bytes);
    left_ = left_.subspan(bytes);
    return absl::OkStatus();
  }

  size_t left() const { return left_.size(); }
  std::span<const std::byte> rest() const { return left_; }

  absl::Status ExpectEnd() const {
    if (left_.empty()) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat("meta_bytes: got ", left_.size(), " more than the body and its arrays take"));
  }

 private:
  absl::Status Short(absl::string_view what, size_t expected) const {
    return absl::InvalidArgumentError(
        absl::StrCat(what, ": got ", left_.size(), " bytes of meta, expected at least ", expected));
  }

  std::span<const std::byte> left_;
};

// The fixed header, from a peer that speaks this protocol: what it says of what this version knows.
template <typename Header>
absl::Status ReadFixedHeader(std::span<const std::byte> message, Header* header) {
  constexpr size_t kFirst = Header::kFirstBytes;
  if (message.size() < kFirst) {
    return Mismatch("message header", message.size(), absl::StrCat("at least ", kFirst, " bytes"));
  }
  *header = {};
  std::memcpy(header, message.data(), kFirst);
  if (header->header_bytes > kFirst) {
    std::memcpy(header, message.data(),
                std::min({message.size(), size_t{header->header_bytes}, sizeof(Header)}));
  }
  if (header->magic != wire::kMagic) {
    return absl::InvalidArgumentError(absl::StrCat("magic: got 0x",
                                                   absl::Hex(header->magic, absl::kZeroPad8),
                                                   ", expected 0x", absl::Hex(wire::kMagic)));
  }
  return absl::OkStatus();
}

// The sizes that a message states against the sizes that arrived.
template <typename Header>
absl::Status CheckFraming(const Header& header, size_t message_bytes, uint64_t payload_bytes) {
  if (header.version != wire::kVersion) {
    return absl::UnimplementedError(
        absl::StrCat("version: got ", header.version, ", expected ", wire::kVersion));
  }
  if (header.header_bytes < Header::kFirstBytes) {
    return Mismatch("header_bytes", header.header_bytes,
                    absl::StrCat("at least ", Header::kFirstBytes));
  }
  const uint64_t stated = uint64_t{header.header_bytes} + header.meta_bytes;
  if (stated != message_bytes) {
    return Mismatch("header_bytes + meta_bytes", stated,
                    absl::StrCat("the ", message_bytes, " that arrived"));
  }
  if (header.payload_bytes != payload_bytes) {
    return Mismatch("payload_bytes", header.payload_bytes,
                    absl::StrCat("the ", payload_bytes, " that arrived"));
  }
  return absl::OkStatus();
}

// Whether a header that is so long has a field that ends at `field_end`, where a flag says that it is
// there.
inline absl::Status CheckField(absl::string_view flag, uint16_t header_bytes, size_t field_end) {
  if (header_bytes >= field_end) return absl::OkStatus();
  return Mismatch("header_bytes", header_bytes,
                  absl::StrCat("at least ", field_end, " with ", flag));
}

}  // namespace latentd

#endif  // LATENTD_TRANSPORT_WIRE_READ_H_
