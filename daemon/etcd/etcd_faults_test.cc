// What a client does when members die, hang, lose their leader or do not let it in.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "daemon/etcd/testing/etcd_process.h"
#include "daemon/etcd/testing/etcd_test_client.h"
#include "daemon/services/test_certificates.h"
#include "tests/cluster/eventually.h"
#include "tests/cluster/loopback.h"

namespace latentd::testing {
namespace {

// `first` is the member that is used as long as it answers.
EtcdOptions Options(const EtcdProcesses& server, size_t first = 0) {
  EtcdOptions options = {.endpoints = server.endpoints(), .watch_silence = absl::Milliseconds(500)};
  std::rotate(options.endpoints.begin(), options.endpoints.begin() + static_cast<long>(first),
              options.endpoints.end());
  return options;
}

EtcdTransaction Writes(const std::string& key, const std::string& value) {
  return {.writes = {{.key = key, .value = value}}};
}

// Until it is done; without harm more than once.
void PutAtLast(EtcdTestClient& client, const std::string& key, const std::string& value) {
  REQUIRE(Eventually(kEtcdPatience,
                     [&] { return client.Commit(Writes(key, value), absl::Seconds(2)).ok(); }));
}

bool TellsLast(const EtcdTestWatch& watch, const std::string& text) {
  return Eventually(kEtcdPatience, [&] { return absl::EndsWith(watch.Told(), text); });
}

bool Names(const absl::Status& status, const std::string& text) {
  const bool named = absl::StrContains(status.message(), text);
  if (!named) WARN(status);
  return named;
}

TEST_CASE("requests and watches survive the death of the leader") {
  EtcdProcesses server({.members = 3});
  const size_t leader = server.Leader();
  EtcdTestClient client(Options(server, leader));
  const auto lease = client.GrantLease(absl::Seconds(5));
  REQUIRE(lease.ok());
  EtcdTestWatch watch(&client, "/a", 1);
  client.Put("/a", "before");
  REQUIRE(TellsLast(watch, "/a=before"));
  server.Kill(leader);
  CHECK(client.KeepAlive(lease->lease).ok());
  PutAtLast(client, "/a", "after");
  CHECK(TellsLast(watch, "/a=after"));
  CHECK(client.List("/a")->entries.at(0).value == "after");
  server.Restart(leader);
  server.WaitUntilServes(leader);
  CHECK_FALSE(watch.End().has_value());
}

TEST_CASE("a member that hangs is left, by requests and by watches") {
  EtcdProcesses server({.members = 3});
  const size_t hung = (server.Leader() + 1) % 3;
  EtcdTestClient client(Options(server, hung));
  EtcdTestWatch watch(&client, "/a", 1);
  client.Put("/a", "before");
  REQUIRE(TellsLast(watch, "/a=before"));
  server.Stop(hung);

  SECTION("one that may be repeated is answered by another member in its time") {
    CHECK(client.List("/a", absl::Seconds(3)).ok());
  }
  SECTION("one that must not is told apart from one that failed") {
    const absl::Status commit = client.Commit(Writes("/a", "lost"), absl::Seconds(1)).status();
    INFO(commit);
    CHECK(commit.code() == absl::StatusCode::kDeadlineExceeded);
    CHECK(Names(commit, server.endpoints()[hung]));
    CHECK(Names(commit, "commit of '/a'"));
    // It was not tried elsewhere, and the next one is.
    CHECK(client.Commit(Writes("/b", "done"), absl::Seconds(1)).ok());
    CHECK(client.List("/a")->entries.at(0).value == "before");
  }
  SECTION("a watch finds out by itself") {
    EtcdTestClient other(Options(server, server.Leader()));
    other.Put("/a", "after");
    CHECK(TellsLast(watch, "/a=after"));
  }
  PutAtLast(client, "/a", "last");
  CHECK(TellsLast(watch, "/a=last"));
  server.Continue(hung);
}

TEST_CASE("a member without a leader says so, and has done nothing") {
  EtcdProcesses server({.members = 3});
  EtcdTestClient client(Options(server));
  EtcdTestWatch watch(&client, "/a", 1);
  client.Put("/a", "before");
  REQUIRE(TellsLast(watch, "/a=before"));
  server.Kill(1);
  server.Kill(2);
  // Until its leader's silence is noticed, it waits for it.
  absl::Status status;
  CHECK(Eventually(kEtcdPatience, [&] {
    status = client.Commit(Writes("/a", "lost"), absl::Seconds(1)).status();
    return status.code() == absl::StatusCode::kUnavailable;
  }));
  CHECK(Names(status, absl::StrCat(server.endpoints()[0], ": etcdserver: no leader")));
  for (const std::string& endpoint : server.endpoints()) CHECK(Names(status, endpoint));
  server.Restart(1);
  server.WaitUntilServes(1);
  PutAtLast(client, "/a", "after");
  CHECK(TellsLast(watch, "/a=after"));
}

TEST_CASE("endpoints where nobody is are named") {
  const std::vector<uint16_t> ports = FreePorts(2);
  const std::string first = absl::StrCat("127.0.0.1:", ports[0]);
  const std::string second = absl::StrCat("127.0.0.1:", ports[1]);
  EtcdTestClient client({.endpoints = {first, second}});
  const absl::Status list = client.List("/a", absl::Milliseconds(300)).status();
  CHECK(list.code() == absl::StatusCode::kUnavailable);
  CHECK(Names(list, "etcd: list of '/a': no member answered within 300ms ("));
  CHECK(Names(list, first + ": "));
  CHECK(Names(list, second + ": "));
  CHECK(Names(list, "Connection refused"));
  CHECK(client.KeepAlive(EtcdLease{1}, absl::Milliseconds(100)).status().code() ==
        absl::StatusCode::kUnavailable);
}

TEST_CASE("what never reached a member was not done") {
  // The kernel accepts connections, and nobody answers on them.
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  REQUIRE(bind(listener, reinterpret_cast<sockaddr*>(&address), size) == 0);
  REQUIRE(listen(listener, 8) == 0);
  getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size);
  const std::string silent = absl::StrCat("127.0.0.1:", ntohs(address.sin_port));

  EtcdTestClient client({.endpoints = {silent}});
  const absl::Status commit = client.Commit(Writes("/a", "1"), absl::Milliseconds(300)).status();
  CHECK(commit.code() == absl::StatusCode::kUnavailable);
  CHECK(Names(commit, silent + ": not reached in time"));

  EtcdProcesses server;
  EtcdTestClient other({.endpoints = {silent, server.endpoints()[0]}});
  CHECK(other.Commit(Writes("/a", "1"), absl::Seconds(4)).ok());
  close(listener);
}

TEST_CASE("user and password") {
  EtcdProcesses server;
  const std::string folder = FreshFolder("password");
  WriteFile(folder + "/right", "secret\n");
  WriteFile(folder + "/wrong", "secret \n");
  EtcdOptions options = Options(server);
  options.user = "latentd";
  options.password_path = folder + "/right";
  EtcdTestClient client(options);
  // As long as etcd asks for none, one that is given does no harm.
  CHECK(client.List("/a/").ok());
  server.EnableAuth("latentd", "secret", "/a/");
  const std::string who = absl::StrCat("etcd ", server.endpoints()[0], ": ");

  SECTION("the right one opens what is the user's, and nothing else") {
    EtcdTestWatch watch(&client, "/a/", 1);
    client.Put("/a/1", "x");
    CHECK(TellsLast(watch, "/a/1=x"));
    const absl::Status list = client.List("/b/").status();
    CHECK(list.code() == absl::StatusCode::kPermissionDenied);
    CHECK(std::string(list.message()) ==
          who + "list of '/b/' as user 'latentd': etcdserver: permission denied");
    EtcdTestWatch forbidden(&client, "/b/", 1);
    REQUIRE(forbidden.Ends());
    CHECK(forbidden.End()->code() == absl::StatusCode::kPermissionDenied);
    CHECK(Names(*forbidden.End(), "watch of '/b/' as user 'latentd'"));
  }
  SECTION("a token that the server has forgotten is renewed") {
    EtcdTestWatch watch(&client, "/a/", 1);
    client.Put("/a/1", "x");
    REQUIRE(TellsLast(watch, "/a/1=x"));
    server.Kill(0);
    server.Restart(0);
    PutAtLast(client, "/a/1", "y");
    CHECK(TellsLast(watch, "/a/1=y"));
    CHECK_FALSE(watch.End().has_value());
  }
  SECTION("a token of a server that has lost its data since is renewed") {
    // It carries how far the server had come, and one that has not come so far says nothing to it.
    for (int i = 0; i < 60; ++i) client.Put("/a/1", absl::StrCat(i));
    server.Kill(0);
    server.Restart(0);
    PutAtLast(client, "/a/1", "y");
    server.Kill(0);
    server.RestartEmpty(0);
    server.WaitUntilServes(0);
    server.EnableAuth("latentd", "secret", "/a/");
    PutAtLast(client, "/a/1", "z");
  }
  SECTION("a wrong one, and none, are refused") {
    options.password_path = folder + "/wrong";
    EtcdTestClient wrong(options);
    const absl::Status list = wrong.List("/a/").status();
    CHECK(list.code() == absl::StatusCode::kUnauthenticated);
    CHECK(std::string(list.message()) ==
          who +
              "list of '/a/' as user 'latentd': etcdserver: authentication failed, invalid user "
              "ID or password");
    EtcdTestWatch watch(&wrong, "/a/", 1);
    REQUIRE(watch.Ends());
    CHECK(watch.End()->code() == absl::StatusCode::kUnauthenticated);
    EtcdTestClient nobody(Options(server));
    CHECK(nobody.List("/a/").status().code() == absl::StatusCode::kUnauthenticated);
  }
}

TEST_CASE("over TLS both sides show who they are") {
  TestCertificates certificates;
  certificates.MakeAuthority("other");
  certificates.Issue("stranger", "other");
  certificates.Issue("client");
  EtcdProcesses server({.tls = certificates.files()});
  const std::string folder = certificates.directory();
  EtcdOptions options = Options(server);

  SECTION("and then it works") {
    options.tls = {folder + "/ca.pem", folder + "/client.pem", folder + "/client.key"};
    EtcdTestClient client(options);
    CHECK(client.Put("/a", "1") > 0);
  }
  SECTION("a server of an unknown authority is not spoken to") {
    options.tls = {folder + "/other.pem", folder + "/client.pem", folder + "/client.key"};
    EtcdTestClient client(options);
    const absl::Status list = client.List("/a", absl::Seconds(1)).status();
    CHECK(list.code() == absl::StatusCode::kUnavailable);
    CHECK(Names(list, server.endpoints()[0]));
    INFO(list);
    CHECK(Names(list, "certificate verify failed"));
  }
  SECTION("nor does the server speak to a stranger") {
    options.tls = {folder + "/ca.pem", folder + "/stranger.pem", folder + "/stranger.key"};
    EtcdTestClient client(options);
    CHECK(client.List("/a", absl::Seconds(1)).status().code() == absl::StatusCode::kUnavailable);
  }
  SECTION("nor to one without certificate, nor in plaintext") {
    options.tls = {.ca_path = folder + "/ca.pem"};
    EtcdTestClient anonymous(options);
    CHECK(anonymous.List("/a", absl::Seconds(1)).status().code() == absl::StatusCode::kUnavailable);
    EtcdTestClient plain(Options(server));
    CHECK(plain.List("/a", absl::Seconds(1)).status().code() == absl::StatusCode::kUnavailable);
  }
}

TEST_CASE("options that cannot work are refused in words") {
  const auto loop = EventLoop::Start("test");
  REQUIRE(loop.ok());
  const auto refusal = [&](EtcdOptions options) {
    return std::string(EtcdClient::Make(loop->get(), std::move(options)).status().message());
  };
  CHECK(refusal({}) == "etcd: no endpoints");
  CHECK(refusal({.endpoints = {"a:1"}, .user = "u"}) ==
        "etcd: a user needs a password, and a password a user");
  CHECK(refusal({.endpoints = {"a:1"}, .user = "u", .password_path = "/nowhere/p"}) ==
        "etcd: password file /nowhere/p: No such file or directory");
  CHECK(refusal({.endpoints = {"a:1"}, .user = "u", .password_path = "/dev/null"}) ==
        "etcd: password file /dev/null: its first line is empty");
  CHECK(refusal({.endpoints = {"a:1"}, .tls = EtcdTls{.ca_path = "/nowhere/ca"}}) ==
        "etcd: authorities /nowhere/ca: No such file or directory");
  CHECK(refusal({.endpoints = {"a:1"}, .tls = EtcdTls{.ca_path = "/dev/null", .cert_path = "c"}}) ==
        "etcd: a certificate needs its key, and a key a certificate");
}

}  // namespace
}  // namespace latentd::testing
