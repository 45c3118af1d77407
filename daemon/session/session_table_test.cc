#include "daemon/session/session_table.h"

#include <catch2/catch.hpp>

namespace latentd {
namespace {

constexpr SessionToken kFirst{1, 1};
constexpr SessionToken kSecond{2, 2};
const absl::Time kStart = absl::UnixEpoch() + absl::Hours(1);

SessionTable TableOf(uint32_t max_sessions) {
  return SessionTable({.max_sessions = max_sessions, .ttl = absl::Seconds(30)});
}

SessionGrant Grant(SessionToken token) {
  return {.token = token, .client_name = "test", .tenant = "default", .worker_address = "w"};
}

TEST_CASE("a session lives for its ttl and not a moment longer") {
  SessionTable table = TableOf(4);
  REQUIRE(table.Add(Grant(kFirst), kStart).ok());
  CHECK(table.NextExpiry() == kStart + absl::Seconds(30));
  CHECK(table.Expire(kStart + absl::Seconds(30) - absl::Nanoseconds(1)).empty());
  const auto over = table.Expire(kStart + absl::Seconds(30));
  REQUIRE(over.size() == 1);
  CHECK(over[0].token == kFirst);
  CHECK(table.size() == 0);
  CHECK(table.NextExpiry() == absl::InfiniteFuture());
}

TEST_CASE("sessions of nodes do not count among those of frontends") {
  SessionTable table = TableOf(1);
  SessionGrant node = Grant(kSecond);
  node.peer_node = "node-b";
  REQUIRE(table.Add(node, kStart).ok());
  REQUIRE(table.Add(Grant(kFirst), kStart).ok());
  CHECK(absl::IsResourceExhausted(table.Add(Grant({3, 3}), kStart)));
  REQUIRE(table.Remove(kSecond).has_value());
  CHECK(absl::IsResourceExhausted(table.Add(Grant({3, 3}), kStart)));
  REQUIRE(table.Add(node, kStart).ok());
  CHECK(table.Expire(kStart + absl::Seconds(30)).size() == 2);
  CHECK(table.Add(Grant(kFirst), kStart).ok());
}

TEST_CASE("renewing gives a session a whole ttl from then on") {
  SessionTable table = TableOf(4);
  REQUIRE(table.Add(Grant(kFirst), kStart).ok());
  REQUIRE(table.Renew(kFirst, kStart + absl::Seconds(20)).ok());
  CHECK(table.Expire(kStart + absl::Seconds(49)).empty());
  CHECK(table.Expire(kStart + absl::Seconds(50)).size() == 1);
}

TEST_CASE("a session that has run out cannot be renewed, swept out or not") {
  SessionTable table = TableOf(4);
  REQUIRE(table.Add(Grant(kFirst), kStart).ok());
  CHECK(table.Renew(kFirst, kStart + absl::Seconds(30)).code() == absl::StatusCode::kNotFound);
  CHECK(table.Renew(kSecond, kStart).code() == absl::StatusCode::kNotFound);
}

TEST_CASE("the limit on sessions refuses one more by name, and room that is freed can be used") {
  SessionTable table = TableOf(1);
  REQUIRE(table.Add(Grant(kFirst), kStart).ok());
  const absl::Status refused = table.Add(Grant(kSecond), kStart);
  CHECK(refused.code() == absl::StatusCode::kResourceExhausted);
  CHECK(std::string(refused.message()).find("data.limits.sessions") != std::string::npos);
  REQUIRE(table.Remove(kFirst).has_value());
  CHECK(table.Add(Grant(kSecond), kStart).ok());
}

TEST_CASE("clearing ends every session") {
  SessionTable table = TableOf(4);
  REQUIRE(table.Add(Grant(kFirst), kStart).ok());
  REQUIRE(table.Add(Grant(kSecond), kStart).ok());
  CHECK(table.Clear().size() == 2);
  CHECK(table.size() == 0);
  CHECK_FALSE(table.Remove(kFirst).has_value());
}

}  // namespace
}  // namespace latentd
