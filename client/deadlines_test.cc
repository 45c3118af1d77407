#include "client/deadlines.h"

#include "catch2/catch.hpp"

namespace latentd {
namespace {

std::vector<uint64_t> DueAt(Deadlines& deadlines, uint64_t now) {
  std::vector<uint64_t> ids;
  deadlines.TakeDue(now, &ids);
  return ids;
}

TEST_CASE("what is due comes out once, earliest first") {
  Deadlines deadlines;
  deadlines.Add(30, 3);
  deadlines.Add(10, 1);
  deadlines.Add(20, 2);
  CHECK(deadlines.next_ns() == 10);
  CHECK(DueAt(deadlines, 9).empty());
  CHECK(DueAt(deadlines, 20) == std::vector<uint64_t>{1, 2});
  CHECK(DueAt(deadlines, 20).empty());
  CHECK(DueAt(deadlines, 1000) == std::vector<uint64_t>{3});
  CHECK(deadlines.empty());
}

TEST_CASE("what is removed never comes due") {
  Deadlines deadlines;
  deadlines.Add(10, 1);
  deadlines.Add(10, 2);
  deadlines.Remove(10, 1);
  deadlines.Remove(11, 2);
  CHECK(DueAt(deadlines, 10) == std::vector<uint64_t>{2});
}

TEST_CASE("never is never due") {
  Deadlines deadlines;
  deadlines.Add(kNever, 1);
  CHECK(DueAt(deadlines, kNever).empty());
}

}  // namespace
}  // namespace latentd
