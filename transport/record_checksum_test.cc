#include "transport/record_checksum.h"

#include <catch2/catch.hpp>

#include <utility>
#include <vector>

namespace latentd {
namespace {

constexpr uint64_t kRecordBytes = 24;

std::vector<std::byte> Records(uint32_t count) {
  std::vector<std::byte> bytes(count * kRecordBytes);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(i * 37 % 251);
  return bytes;
}

TEST_CASE("a payload's checksum changes with any of its bytes, and is that of no other place") {
  auto bytes = Records(3);
  const uint64_t sum = PayloadChecksum(bytes);
  CHECK(sum == PayloadChecksum(bytes));
  CHECK(PayloadChecksum({}) == 0x2d06800538d394c2);  // XXH3_64 of nothing, as published
  for (auto& byte : bytes) {
    byte ^= std::byte{1};
    CHECK(PayloadChecksum(bytes) != sum);
    byte ^= std::byte{1};
  }
}

TEST_CASE("shares of disjoint ranges add up to the share of the whole") {
  const auto records = Records(2 * 5);
  const std::span<const std::byte> all(records);
  const uint64_t whole = RangeChecksum(all, kRecordBytes, 3, 2, 10, 5);

  const uint64_t layer3 = RangeChecksum(all.first(5 * kRecordBytes), kRecordBytes, 3, 1, 10, 5);
  const uint64_t layer4_head =
      RangeChecksum(all.subspan(5 * kRecordBytes, 2 * kRecordBytes), kRecordBytes, 4, 1, 10, 2);
  const uint64_t layer4_tail =
      RangeChecksum(all.subspan(7 * kRecordBytes), kRecordBytes, 4, 1, 12, 3);
  CHECK(layer4_tail + layer3 + layer4_head == whole);
}

TEST_CASE("two records that changed places change the checksum") {
  auto records = Records(2);
  const uint64_t before = RangeChecksum(records, kRecordBytes, 0, 1, 0, 2);
  for (size_t i = 0; i < kRecordBytes; ++i) std::swap(records[i], records[kRecordBytes + i]);
  CHECK(RangeChecksum(records, kRecordBytes, 0, 1, 0, 2) != before);
  CHECK(RecordChecksum({records.data(), kRecordBytes}, 1, 0) !=
        RecordChecksum({records.data(), kRecordBytes}, 0, 1));
}

TEST_CASE("the checksum is fixed for ever: it is part of the protocol") {
  // XXH3_64 of no bytes with seed 0, from the algorithm's own test vectors.
  CHECK(RecordChecksum({}, 0, 0) == 0x2d06800538d394c2u);
  CHECK(RangeChecksum({}, kRecordBytes, 0, 0, 0, 0) == 0);
}

}  // namespace
}  // namespace latentd
