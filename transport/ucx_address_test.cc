#include "transport/ucx_address.h"

#include <string>

#include "catch2/catch.hpp"

namespace latentd {
namespace {

TEST_CASE("an address comes out of its envelope as it went in") {
  for (const std::string& bytes :
       {std::string("a"), std::string(300, '\0'), std::string("\xff\x01")}) {
    for (const std::string& transports : {std::string(), std::string("tcp,cuda")}) {
      const std::string wrapped = WrapAddress({bytes, transports});
      const auto unwrapped = UnwrapAddress(wrapped);
      REQUIRE(unwrapped.ok());
      CHECK(unwrapped->ucx == bytes);
      CHECK(unwrapped->transports == transports);
    }
  }
}

TEST_CASE("an address that is cut, grown, changed or empty is refused") {
  std::string wrapped = WrapAddress({"some address of UCX", "tcp"});
  CHECK_FALSE(UnwrapAddress("").ok());
  CHECK_FALSE(UnwrapAddress(WrapAddress({"", "tcp"})).ok());
  CHECK_FALSE(UnwrapAddress(wrapped + "x").ok());
  for (size_t length = 0; length < wrapped.size(); ++length) {
    CHECK_FALSE(UnwrapAddress(std::string_view(wrapped).substr(0, length)).ok());
  }
  for (char& c : wrapped) {
    for (int bit = 0; bit < 8; ++bit) {
      c = static_cast<char>(c ^ (1 << bit));
      CHECK_FALSE(UnwrapAddress(wrapped).ok());
      c = static_cast<char>(c ^ (1 << bit));
    }
  }
  CHECK(UnwrapAddress(wrapped).ok());
}

TEST_CASE("an address of a megabyte is refused without a look at it") {
  CHECK_FALSE(UnwrapAddress(WrapAddress({std::string(1 << 20, 'x'), ""})).ok());
}

TEST_CASE("an address in another version of UCX's format is refused, whatever its flags") {
  CHECK(CheckUcxVersion({"\x21...", "tcp"}, {"\xe1", ""}).ok());
  for (char version = 0; version < 16; ++version) {
    if (version == 1) continue;
    const std::string theirs(1, static_cast<char>(0x20 | version));
    CHECK(CheckUcxVersion({"\x21...", "tcp"}, {theirs, ""}).code() ==
          absl::StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace latentd
