#include "daemon/etcd/etcd_messages.h"

#include <catch2/catch.hpp>
#include <string>

namespace latentd {
namespace {

TEST_CASE("a prefix ends before the next one of its length") {
  CHECK(RangeOfPrefix("/a/").end == "/a0");
  CHECK(RangeOfPrefix("a\xff").end == "b");
  // To the last key.
  const std::string zero(1, '\0');
  CHECK(RangeOfPrefix("\xff\xff").key == "\xff\xff");
  CHECK(RangeOfPrefix("\xff\xff").end == zero);
  CHECK(RangeOfPrefix("").key == zero);
  CHECK(RangeOfPrefix("").end == zero);
}

TEST_CASE("a transaction is described by a few of its keys") {
  EtcdTransaction transaction;
  CHECK(Describe(transaction) == "commit of nothing");
  for (const char* key : {"a", "b", "c"}) transaction.writes.push_back({.key = key});
  CHECK(Describe(transaction) == "commit of 'a', 'b', 'c'");
  transaction.writes.push_back({.key = "d"});
  CHECK(Describe(transaction) == "commit of 'a', 'b', 'c' and 1 more");
}

}  // namespace
}  // namespace latentd
