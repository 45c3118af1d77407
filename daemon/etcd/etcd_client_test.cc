// With one real etcd.
#include "daemon/etcd/etcd_client.h"

#include <catch2/catch.hpp>
#include <future>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "daemon/etcd/testing/etcd_process.h"
#include "daemon/etcd/testing/etcd_test_client.h"
#include "tests/cluster/eventually.h"

namespace latentd::testing {
namespace {

// Of all tests here: each has a prefix of its own.
EtcdProcesses& Server() {
  static EtcdProcesses server;
  return server;
}

EtcdOptions Options(const EtcdProcesses& server) { return {.endpoints = server.endpoints()}; }

std::string Listed(const absl::StatusOr<EtcdListing>& listing) {
  if (!listing.ok()) return listing.status().ToString();
  std::string text;
  for (const EtcdEntry& entry : listing->entries) {
    absl::StrAppend(&text, text.empty() ? "" : " ", entry.key, "=", entry.value);
  }
  return text;
}

TEST_CASE("what was committed is listed, by key, with its revisions") {
  EtcdTestClient client(Options(Server()));
  const int64_t first = client.Put("/list/b", "1");
  const int64_t second = client.Put("/list/a", std::string("\0\xff", 2));
  const int64_t third = client.Put("/list/b", "2");
  client.Put("/lisu", "of another prefix");
  const auto listing = client.List("/list/");
  REQUIRE(listing.ok());
  REQUIRE(listing->entries.size() == 2);
  CHECK(listing->revision == third + 1);
  CHECK(listing->entries[0].key == "/list/a");
  CHECK(listing->entries[0].value == std::string("\0\xff", 2));
  CHECK(listing->entries[0].create_revision == second);
  CHECK(listing->entries[1].value == "2");
  CHECK(listing->entries[1].create_revision == first);
  CHECK(listing->entries[1].mod_revision == third);
}

TEST_CASE("a transaction is done wholly if all its guards hold, else not at all") {
  EtcdTestClient client(Options(Server()));
  using Field = EtcdGuard::Field;
  const EtcdTransaction create = {
      .guards = {{.key = "/guard/a", .field = Field::kCreateRevision, .revision = 0}},
      .writes = {{.key = "/guard/a", .value = "1"}, {.key = "/guard/b", .value = "1"}}};
  const auto created = client.Commit(create);
  REQUIRE(created.ok());
  CHECK(created->done);
  const auto again = client.Commit(create);
  REQUIRE(again.ok());
  CHECK_FALSE(again->done);
  CHECK(again->revision == created->revision);

  EtcdTransaction change = {
      .guards = {{.key = "/guard/a", .field = Field::kModRevision, .revision = created->revision},
                 {.key = "/guard/c", .field = Field::kModRevision, .revision = 0}},
      .writes = {{.key = "/guard/a", .value = "2"}, {.key = "/guard/b", .erase = true}}};
  const auto changed = client.Commit(change);
  REQUIRE(changed.ok());
  CHECK(changed->done);
  CHECK(Listed(client.List("/guard/")) == "/guard/a=2");
  CHECK_FALSE(client.Commit(change)->done);

  const auto erased = client.Commit({.writes = {{.key = "/guard/", .erase_prefix = true}}});
  CHECK(erased->done);
  CHECK(Listed(client.List("/guard/")) == "");
}

TEST_CASE("what etcd refuses is told with the endpoint and the keys") {
  EtcdTestClient client(Options(Server()));
  const auto refused =
      client.Commit({.writes = {{.key = "/twice", .value = "1"}, {.key = "/twice", .value = "2"}}});
  CHECK(refused.status().code() == absl::StatusCode::kInvalidArgument);
  CHECK(std::string(refused.status().message()) ==
        absl::StrCat("etcd ", Server().endpoints()[0],
                     ": commit of '/twice', '/twice': etcdserver: duplicate key given in txn "
                     "request"));
}

TEST_CASE("a listing may be larger than gRPC's usual bound") {
  EtcdTestClient client(Options(Server()));
  const std::string value(1 << 20, 'x');
  for (int i = 0; i < 6; ++i) client.Put(absl::StrCat("/large/", i), value);
  const auto listing = client.List("/large/");
  REQUIRE(listing.ok());
  CHECK(listing->entries.size() == 6);
}

TEST_CASE("keys live as long as their lease is kept alive") {
  EtcdTestClient client(Options(Server()));
  const auto lease = client.GrantLease(absl::Milliseconds(600));
  REQUIRE(lease.ok());
  CHECK(lease->ttl >= absl::Seconds(1));
  client.Put("/lease/kept", "1", lease->lease);
  CHECK(client.List("/lease/kept")->entries.at(0).lease == lease->lease);
  const auto kept = client.KeepAlive(lease->lease);
  REQUIRE(kept.ok());
  CHECK(*kept == lease->ttl);

  EtcdTestWatch watch(&client, "/lease/", client.List("/lease/")->revision + 1);
  REQUIRE(
      Eventually(kEtcdPatience, [&] { return absl::StrContains(watch.Told(), "/lease/kept!"); }));
  const auto late = client.KeepAlive(lease->lease);
  CHECK(late.status().code() == absl::StatusCode::kNotFound);
  CHECK(absl::StrContains(late.status().message(), "keep alive of lease "));
}

TEST_CASE("keys go with a lease that is revoked") {
  EtcdTestClient client(Options(Server()));
  const auto lease = client.GrantLease(absl::Seconds(60));
  REQUIRE(lease.ok());
  client.Put("/revoked/a", "1", lease->lease);
  CHECK(client.RevokeLease(lease->lease).ok());
  CHECK(Listed(client.List("/revoked/")) == "");
  CHECK(client.RevokeLease(lease->lease).status().code() == absl::StatusCode::kNotFound);
  // Nobody writes under a lease that is over.
  CHECK(client.Commit({.writes = {{.key = "/revoked/b", .lease = lease->lease}}}).status().code() ==
        absl::StatusCode::kNotFound);
}

TEST_CASE("a watch tells what happened since its revision, one revision a call") {
  EtcdTestClient client(Options(Server()));
  client.Put("/watch/a", "before");
  const int64_t first = client.Put("/watch/a", "1");
  client.Put("/elsewhere", "1");
  EtcdTestWatch watch(&client, "/watch/", first);
  const auto both = client.Commit(
      {.writes = {{.key = "/watch/a", .erase = true}, {.key = "/watch/b", .value = "2"}}});
  const int64_t last = client.Put("/watch/b", "3");
  CHECK(watch.Tells(absl::StrCat(first, ":/watch/a=1 ", both->revision, ":/watch/a!,/watch/b=2 ",
                                 last, ":/watch/b=3")));
}

TEST_CASE("a transaction larger than a message of a watch is told in one call") {
  EtcdTestClient client(Options(Server()));
  const int64_t start = client.List("/fragments/")->revision + 1;
  // One answer with all of these is sent in fragments of 2 MiB at most.
  for (int i = 0; i < 3; ++i) {
    EtcdTransaction transaction;
    for (int k = 0; k < 12; ++k) {
      transaction.writes.push_back(
          {.key = absl::StrCat("/fragments/", k), .value = std::string(100'000, 'x')});
    }
    REQUIRE(client.Commit(transaction).ok());
  }
  std::vector<size_t> sizes;
  std::unique_ptr<EtcdWatch> watch;
  std::promise<void> complete;
  client.RunOn([&](EtcdClient& etcd) {
    watch = etcd.Watch(
        "/fragments/", start,
        [&](int64_t, const std::vector<EtcdEvent>& events) {
          if (!events.empty()) sizes.push_back(events.size());
          if (sizes.size() == 3) complete.set_value();
        },
        [](const absl::Status&) {});
  });
  complete.get_future().wait();
  client.OnLoop([&] { watch = nullptr; });
  CHECK(sizes == std::vector<size_t>{12, 12, 12});
}

TEST_CASE("a watch of compacted revisions ends, and the listing helps") {
  EtcdProcesses server;
  EtcdTestClient client(Options(server));
  client.Put("/a", "1");
  client.Put("/a", "2");
  const int64_t last = client.Put("/a", "3");
  server.Compact(last);
  EtcdTestWatch watch(&client, "/a", last - 1);
  REQUIRE(watch.Ends());
  CHECK(watch.Told() == "");
  CHECK(*watch.End() == absl::OutOfRangeError(absl::StrCat(
                            "etcd ", server.endpoints()[0], ": watch of '/a': revision ", last - 1,
                            " was compacted; the oldest is ", last)));
  EtcdTestWatch anew(&client, "/a", last);
  CHECK(anew.Tells(absl::StrCat(last, ":/a=3")));
}

TEST_CASE("a watch goes on where it was when the server restarts") {
  EtcdProcesses server;
  EtcdTestClient client(Options(server));
  EtcdTestWatch watch(&client, "/a", 1);
  const int64_t first = client.Put("/a", "1");
  REQUIRE(watch.Tells(absl::StrCat(first, ":/a=1")));
  server.Kill(0);
  server.Restart(0);
  REQUIRE(client.List("/a").ok());  // a commit would not be repeated when the connection breaks
  const int64_t second = client.Put("/a", "2");
  CHECK(watch.Tells(absl::StrCat(first, ":/a=1 ", second, ":/a=2")));
  CHECK_FALSE(watch.End().has_value());
}

TEST_CASE("a watch that was cut off ends when what it missed is compacted") {
  EtcdProcesses server;
  EtcdTestClient client(Options(server));
  EtcdTestClient other(Options(server));
  EtcdTestWatch watch(&client, "/a", 1);
  const int64_t first = client.Put("/a", "1");
  REQUIRE(watch.Tells(absl::StrCat(first, ":/a=1")));
  // All of it while the watch's thread does not come to connect again.
  client.OnLoop([&] {
    server.Kill(0);
    server.Restart(0);
    other.Put("/a", "2");
    server.Compact(other.Put("/a", "3"));
  });
  REQUIRE(watch.Ends());
  CHECK(watch.End()->code() == absl::StatusCode::kOutOfRange);
  CHECK(watch.Told() == absl::StrCat(first, ":/a=1"));
}

TEST_CASE("a watch may be destroyed by what it tells, and tells nothing then") {
  EtcdTestClient client(Options(Server()));
  const int64_t first = client.Put("/once/a", "1");
  client.Put("/once/a", "2");
  client.Put("/once/a", "3");
  int calls = 0;
  std::unique_ptr<EtcdWatch> watch;
  std::promise<void> told;
  client.RunOn([&](EtcdClient& etcd) {
    watch = etcd.Watch(
        "/once/", first,
        [&](int64_t, const std::vector<EtcdEvent>&) {
          ++calls;
          watch = nullptr;
          told.set_value();
        },
        [](const absl::Status&) {});
  });
  told.get_future().wait();
  client.Put("/once/a", "4");
  client.OnLoop([] {});
  CHECK(calls == 1);
}

TEST_CASE("a client that goes drops its callbacks and waits for nobody") {
  EtcdProcesses server;
  EtcdTestClient client(Options(server));
  const int64_t first = client.Put("/a", std::string(100'000, 'x'));
  for (int i = 0; i < 50; ++i) client.Put("/a", std::string(100'000, 'x'));
  const auto lease = client.GrantLease(absl::Seconds(60));
  int told = 0;
  std::vector<std::unique_ptr<EtcdWatch>> watches;
  SECTION("while everything is busy") {}
  SECTION("while the server hangs") { server.Stop(0); }
  SECTION("while there is no server") { server.Kill(0); }
  client.RunOn([&](EtcdClient& etcd) {
    for (int i = 0; i < 20; ++i) {
      etcd.List("/", absl::Seconds(60), [&](const auto&) { ++told; });
      etcd.Commit({.writes = {{.key = "/b"}}}, absl::Seconds(60), [&](const auto&) { ++told; });
      etcd.KeepAlive(lease->lease, absl::Seconds(60), [&](const auto&) { ++told; });
      watches.push_back(etcd.Watch(
          "/", first, [&](int64_t, const auto&) {}, [&](const absl::Status&) { ++told; }));
    }
  });
  int told_before = 0;
  client.OnLoop([&] { told_before = told; });
  client.Destroy();
  client.OnLoop([&] { told_before = told; });
  client.OnLoop([&] {});
  CHECK(told == told_before);
  // They may outlive the client.
  client.OnLoop([&] { watches.clear(); });
}

}  // namespace
}  // namespace latentd::testing
