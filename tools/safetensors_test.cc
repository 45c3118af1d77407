#include "tools/safetensors.h"

#include <cstring>
#include <string>

#include "catch2/catch.hpp"

namespace latentd {
namespace {

using Catch::Matchers::Contains;

std::vector<std::byte> File(const std::string& header, size_t data_bytes) {
  std::vector<std::byte> content(8 + header.size() + data_bytes);
  const uint64_t length = header.size();
  std::memcpy(content.data(), &length, 8);
  std::memcpy(content.data() + 8, header.data(), header.size());
  for (size_t i = 0; i < data_bytes; ++i)
    content[8 + header.size() + i] = static_cast<std::byte>(i);
  return content;
}

std::string ErrorOf(const std::string& header, size_t data_bytes) {
  const auto file = SafetensorsFile::Parse("trace", File(header, data_bytes));
  REQUIRE_FALSE(file.ok());
  CHECK_THAT(std::string(file.status().message()), Contains("trace"));
  return std::string(file.status().message());
}

TEST_CASE("tensors and metadata are found") {
  const auto file = SafetensorsFile::Parse(
      "t", File(R"({"__metadata__":{"heads":"16","source":"x"},)"
                R"("a":{"dtype":"BF16","shape":[2,3],"data_offsets":[4,16]},)"
                R"("b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
                16));
  REQUIRE(file.ok());
  const auto a = file->Get("a", "BF16", {2, 3});
  REQUIRE(a.ok());
  CHECK(a->bytes.size() == 12);
  CHECK(a->bytes[0] == std::byte{4});
  CHECK(*file->Number("heads") == 16);
  CHECK(absl::IsNotFound(file->Get("c", "F32", {1}).status()));
  CHECK(absl::IsInvalidArgument(file->Get("a", "F32", {2, 3}).status()));
  CHECK(absl::IsInvalidArgument(file->Get("a", "BF16", {3, 2}).status()));
  CHECK(absl::IsNotFound(file->Number("layers").status()));
  CHECK(absl::IsInvalidArgument(file->Number("source").status()));
}

TEST_CASE("a tensor stays where it is when the file is moved") {
  auto file = SafetensorsFile::Parse(
      "t", File(R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]}})", 3));
  REQUIRE(file.ok());
  const SafetensorsFile moved = *std::move(file);
  CHECK(moved.Get("a", "U8", {3})->bytes[2] == std::byte{2});
}

TEST_CASE("what is broken is named") {
  CHECK_THAT(ErrorOf(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})", 3),
             Contains("outside"));
  CHECK_THAT(ErrorOf(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4),
             Contains("8 bytes"));
  CHECK_THAT(ErrorOf(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4),
             Contains("outside"));
  CHECK_THAT(ErrorOf(R"({"a":{"dtype":"F99","shape":[1],"data_offsets":[0,4]}})", 4),
             Contains("F99"));
  CHECK_THAT(
      ErrorOf(R"({"a":{"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,4]}})", 4),
      Contains("overflows"));
  CHECK_THAT(ErrorOf(R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4),
             Contains("shape"));
  CHECK_THAT(ErrorOf(R"({"a":{"dtype":"F32","shape":[1]}})", 4), Contains("data_offsets"));
  CHECK_THAT(ErrorOf("[1]", 0), Contains("JSON"));
  CHECK_THAT(ErrorOf("{", 0), Contains("JSON"));
  CHECK_FALSE(SafetensorsFile::Parse("t", std::vector<std::byte>(5)).ok());
  CHECK_FALSE(SafetensorsFile::Parse("t", std::vector<std::byte>(20, std::byte{0xff})).ok());
  CHECK(absl::IsNotFound(SafetensorsFile::Read("/nonexistent").status()));
}

}  // namespace
}  // namespace latentd
