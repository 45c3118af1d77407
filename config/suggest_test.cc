#include "config/suggest.h"

#include <catch2/catch.hpp>

namespace latentd {
namespace {

TEST_CASE("each insertion, deletion, substitution or swap counts one") {
  CHECK(EditDistance("", "") == 0);
  CHECK(EditDistance("cache", "cache") == 0);
  CHECK(EditDistance("cach", "cache") == 1);
  CHECK(EditDistance("caches", "cache") == 1);
  CHECK(EditDistance("cacke", "cache") == 1);
  CHECK(EditDistance("cahce", "cache") == 1);
  CHECK(EditDistance("", "cache") == 5);
  CHECK(EditDistance("kitten", "sitting") == 3);
}

TEST_CASE("case and the kind of dash do not count") {
  CHECK(EditDistance("Spin-US", "spin_us") == 0);
}

TEST_CASE("the nearest name is suggested, the first of equals, and none that is far") {
  const std::vector<std::string> names = {"listen", "level", "layers", "lanes"};
  CHECK(Nearest("lsiten", names) == "listen");
  CHECK(Nearest("lane", names) == "lanes");
  CHECK(Nearest("leyers", names) == "layers");
  CHECK_FALSE(Nearest("format", names).has_value());
  CHECK_FALSE(Nearest("", names).has_value());
  CHECK_FALSE(Nearest(std::string(100000, 'l'), names).has_value());
  CHECK(Nearest("aa", {"ab", "ac"}) == "ab");
}

}  // namespace
}  // namespace latentd
