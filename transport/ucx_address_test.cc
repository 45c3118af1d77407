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

}  // namespace
}  // namespace latentd
