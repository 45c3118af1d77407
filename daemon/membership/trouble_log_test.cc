#include "daemon/membership/trouble_log.h"

#include <catch2/catch.hpp>

namespace latentd {
namespace {

const absl::Time kStart = absl::UnixEpoch();

TEST_CASE("an etcd that does nothing is told of once, and again once a minute at most") {
  TroubleLog log;
  size_t lines = 0;
  for (int tenth = 0; tenth < 1800; ++tenth) {
    // Every request fails in words of its own.
    const std::string what = tenth % 2 == 0 ? "etcd: list of 'a': permission denied"
                                            : "etcd: grant of a lease: no member answered";
    lines += log.Observe(what, {what, "3 slots"}, kStart + absl::Milliseconds(100 * tenth)).size();
  }
  CHECK(lines == 2 + 2);
}

TEST_CASE("a trouble whose numbers change is the same one") {
  TroubleLog log;
  CHECK(log.Observe("", {"12 slots have fewer than 2 copies"}, kStart).size() == 1);
  CHECK(log.Observe("", {"8 slots have fewer than 2 copies"}, kStart + absl::Seconds(1)).empty());
  const auto lines = log.Observe("", {"8 slots have fewer than 2 copies", "node 'b' holds other"},
                                 kStart + absl::Seconds(2));
  REQUIRE(lines.size() == 1);
  CHECK(lines[0].trouble == "node 'b' holds other");
  CHECK_FALSE(lines[0].over);
}

TEST_CASE("a trouble that has been away for a while is over, and new when it comes again") {
  TroubleLog log;
  REQUIRE(log.Observe("", {"odd"}, kStart).size() == 1);
  CHECK(log.Observe("", {}, kStart + absl::Seconds(3)).empty());
  CHECK(log.Observe("", {"odd"}, kStart + absl::Seconds(4)).empty());
  CHECK(log.Observe("", {}, kStart + absl::Seconds(5)).empty());
  CHECK_FALSE(log.empty());
  const auto lines = log.Observe("", {}, kStart + absl::Seconds(4) + TroubleLog::kGoneAfter);
  REQUIRE(lines.size() == 1);
  CHECK(lines[0].over);
  CHECK(lines[0].trouble == "odd");
  CHECK(lines[0].lasted == absl::Seconds(4));
  CHECK(log.empty());
  CHECK(log.Observe("", {"odd"}, kStart + absl::Minutes(1)).size() == 1);
}

}  // namespace
}  // namespace latentd
