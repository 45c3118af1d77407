// Two processes: what a worker sees of a peer that answers, dies, stops or leaves.
#include <signal.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#define CATCH_CONFIG_RUNNER
#include "catch2/catch.hpp"
#include "transport/peer_process.h"
#include "transport/worker_test_util.h"

namespace latentd {
namespace {

// A worker here, a peer there, an endpoint to it.
struct World {
  World(const std::string& role, const std::string& transport) {
    context = MakeContext({transport});
    worker = ValueOrThrow(Worker::Create(context));
    worker->SetHandler(kPeerAm, [this](IncomingMessage) { ++requests; });
    worker->SetHandler(kPeerAnswerAm, [this](IncomingMessage message) {
      answers.push_back(Text(message.header()));
      last = std::move(message);
    });
    peer = ValueOrThrow(PeerProcess::Start(role, transport, worker->address()));
    endpoint =
        ValueOrThrow(worker->Connect(peer->address(), [this](absl::Status s) { failure = s; }));
  }
  bool Until(const std::function<bool()>& condition,
             std::chrono::milliseconds limit = std::chrono::seconds(20)) {
    return ProgressUntil({worker.get()}, condition, limit);
  }
  bool Ask(const std::string& header, std::span<const std::byte> payload = {}) {
    const size_t before = answers.size();
    endpoint->Send(kPeerAm, Bytes(header), payload, [](absl::Status) {});
    return Until([&] { return answers.size() > before || failure.has_value(); }) &&
           !failure.has_value() && answers.back() == header;
  }

  std::shared_ptr<Context> context;
  std::unique_ptr<Worker> worker;
  std::unique_ptr<PeerProcess> peer;
  std::unique_ptr<Endpoint> endpoint;
  std::optional<absl::Status> failure;
  std::vector<std::string> answers;
  IncomingMessage last;
  uint64_t requests = 0;
};

TEST_CASE("a peer in another process echoes payloads of every size") {
  const std::string transport = GENERATE("tcp", "shm");
  World world(kEchoRole, transport);
  for (const size_t size : {0, 1, 4096, 18432, 147456, 1 << 20, 5 << 20}) {
    const auto payload = Pattern(size, 3);
    REQUIRE(world.Ask(std::to_string(size), payload));
    std::vector<std::byte> echoed(size);
    bool received = false;
    world.last.ReceiveInto(echoed.data(), [&](absl::Status s) { received = s.ok(); });
    REQUIRE(world.Until([&] { return received; }));
    CHECK(echoed == payload);
  }
}

TEST_CASE("a killed peer fails its endpoint and everything in flight within seconds") {
  const std::string transport = GENERATE("tcp", "shm");
  World world(kEchoRole, transport);
  REQUIRE(world.Ask("hello"));
  const auto large = Pattern(8 << 20, 1);
  constexpr int kSends = 8;
  int done = 0;
  SECTION("while nothing is in flight") { done = kSends; }
  SECTION("while it is stopped in the middle of transfers") {
    world.peer->Signal(SIGSTOP);
    for (int i = 0; i < kSends; ++i) {
      world.endpoint->Send(kPeerAm, Bytes("x"), large, [&](absl::Status) { ++done; });
    }
    for (int i = 0; i < 1000; ++i) world.worker->Progress();
  }
  world.peer->Signal(SIGKILL);
  world.peer->Wait();
  const auto died = std::chrono::steady_clock::now();
  REQUIRE(world.Until([&] { return world.failure.has_value() && done == kSends; }));
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - died;
  INFO(transport << ": noticed after " << took.count() << " s");
  CHECK(took < std::chrono::seconds(6));
  CHECK(world.failure->code() == absl::StatusCode::kUnavailable);
  std::optional<absl::Status> late;
  world.endpoint->Send(kPeerAm, Bytes("x"), {}, [&](absl::Status s) { late = s; });
  REQUIRE(world.Until([&] { return late.has_value(); }));
  CHECK(late->code() == absl::StatusCode::kUnavailable);
  // A new peer is reached through a new endpoint.
  world.peer = ValueOrThrow(PeerProcess::Start(kEchoRole, transport, world.worker->address()));
  world.failure.reset();
  world.endpoint = ValueOrThrow(world.worker->Connect(world.peer->address(), [](absl::Status) {}));
  CHECK(world.Ask("again"));
}

TEST_CASE("a receive from a killed peer ends with an error") {
  World world(kEchoRole, "tcp");
  const auto large = Pattern(8 << 20, 1);
  REQUIRE(world.Ask("x", large));
  REQUIRE_FALSE(world.last.is_eager());
  world.peer->Signal(SIGKILL);
  world.peer->Wait();
  std::vector<std::byte> buffer(large.size());
  std::optional<absl::Status> received;
  SECTION("that starts before the death is noticed") {}
  SECTION("that starts after the death was noticed") {
    REQUIRE(world.Until([&] { return world.failure.has_value(); }));
  }
  world.last.ReceiveInto(buffer.data(), [&](absl::Status s) { received = s; });
  REQUIRE(world.Until([&] { return received.has_value(); }));
  CHECK(received->code() == absl::StatusCode::kUnavailable);
}

TEST_CASE("a peer killed while it floods leaves the worker able to serve others") {
  // Not so over shared memory: see README.md.
  World world(kEchoRole, "tcp");
  REQUIRE(world.Ask("hello"));
  for (int round = 0; round < 5; ++round) {
    auto flooder = ValueOrThrow(PeerProcess::Start(kFloodRole, "tcp", world.worker->address()));
    const uint64_t before = world.requests;
    REQUIRE(world.Until([&] { return world.requests > before + 100; }));
    flooder->Signal(SIGKILL);
    flooder->Wait();
    CHECK(world.Ask("still there?"));
  }
}

TEST_CASE("a peer that is stopped keeps its connection: only our own liveness can tell") {
  World world(kEchoRole, "tcp");
  REQUIRE(world.Ask("hello"));
  world.peer->Signal(SIGSTOP);
  bool sent = false;
  world.endpoint->Send(kPeerAm, Bytes("x"), {}, [&](absl::Status) { sent = true; });
  REQUIRE(world.Until([&] { return sent; }));
  CHECK_FALSE(world.Until([&] { return world.failure.has_value() || world.answers.size() > 1; },
                          std::chrono::milliseconds(300)));
  world.peer->Signal(SIGCONT);
  CHECK(world.Until([&] { return world.answers.size() == 2; }));
}

TEST_CASE("a peer that closes in order is reported, and UCX logs nothing") {
  const std::string transport = GENERATE("tcp", "shm");
  std::fflush(stdout);
  std::FILE* log = std::tmpfile();
  const int saved = dup(STDOUT_FILENO);
  dup2(fileno(log), STDOUT_FILENO);  // UCX logs there
  {
    World world(kQuitRole, transport);
    const bool asked = world.Ask("hello");
    world.endpoint->Send(kPeerAm, Bytes("quit"), {}, [](absl::Status) {});
    // Shared memory has no connection that could close: keepalive misses the process, once it is
    // reaped.
    const int exit_status = world.peer->Wait();
    const bool noticed = world.Until([&] { return world.failure.has_value(); });
    world.endpoint.reset();
    for (int i = 0; i < 1000; ++i) world.worker->Progress();
    std::fflush(stdout);
    dup2(saved, STDOUT_FILENO);
    CHECK(asked);
    CHECK(exit_status == 0);
    CHECK(noticed);
  }
  close(saved);
  std::rewind(log);
  char text[4096] = {};
  const size_t bytes = std::fread(text, 1, sizeof(text) - 1, log);
  std::fclose(log);
  INFO(text);
  CHECK(bytes == 0);
}

}  // namespace
}  // namespace latentd

int main(int argc, char** argv) {
  latentd::RunIfPeer(argc, argv);
  return Catch::Session().run(argc, argv);
}
