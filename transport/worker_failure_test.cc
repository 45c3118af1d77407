// Peers that leave, come back or were never known; endpoints and workers destroyed at the worst
// moment.
#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "catch2/catch.hpp"
#include "transport/worker.h"
#include "transport/worker_test_util.h"

namespace latentd {
namespace {

TEST_CASE("a client that comes back on the same worker is answered, also after it was ignored") {
  const std::string transport = GENERATE("tcp", "shm");
  Pair pair(transport);
  std::unique_ptr<Endpoint> to_a;
  bool known = false;
  int requests = 0;
  int answers = 0;
  pair.b->SetHandler(kTestAm, [&](IncomingMessage message) {
    ++requests;
    if (known && to_a == nullptr) {
      to_a = ValueOrThrow(pair.b->Connect(pair.a->address(), [](absl::Status) {}));
    }
    if (known) {
      to_a->Send(kTestAnswerAm, message.header(), {}, [](absl::Status s) { CHECK(s.ok()); });
    }
  });
  pair.a->SetHandler(kTestAnswerAm, [&](IncomingMessage) { ++answers; });
  for (int round = 0; round < 12; ++round) {
    INFO(transport << ", round " << round);
    known = round % 3 != 0;
    pair.failure.reset();
    pair.Connect();
    const int requests_before = requests;
    const int answers_before = answers;
    for (int i = 0; i < 3; ++i) pair.to_b->Send(kTestAm, Bytes("x"), {}, [](absl::Status) {});
    REQUIRE(pair.Until([&] { return requests == requests_before + 3; }));
    if (known) REQUIRE(pair.Until([&] { return answers == answers_before + 3; }));
    CHECK_FALSE(pair.failure.has_value());
    // Either side may be the first to close.
    if (round % 2 == 0) pair.to_b.reset();
    to_a.reset();
    pair.to_b.reset();
    pair.Settle();
  }
}

TEST_CASE("closing an endpoint with sends in flight still runs each callback exactly once") {
  const std::string transport = GENERATE("tcp", "shm");
  Pair pair(transport);
  std::vector<IncomingMessage> held;
  pair.b->SetHandler(kTestAm, [&](IncomingMessage message) { held.push_back(std::move(message)); });
  pair.Connect();
  const auto payload = Pattern(4 << 20, 1);
  constexpr int kSends = 20;
  std::vector<int> calls(kSends, 0);
  int failed = 0;
  for (int i = 0; i < kSends; ++i) {
    pair.to_b->Send(kTestAm, Bytes("x"), payload, [&, i](absl::Status status) {
      ++calls[i];
      if (!status.ok()) ++failed;
    });
  }
  REQUIRE(pair.Until([&] { return !held.empty(); }));
  pair.to_b.reset();
  REQUIRE(pair.Until([&] { return std::count(calls.begin(), calls.end(), 0) == 0; }));
  pair.Settle();
  CHECK(std::count(calls.begin(), calls.end(), 1) == kSends);
  CHECK(failed > 0);
}

TEST_CASE("an endpoint may be destroyed inside its own callbacks") {
  Pair pair("tcp");
  pair.b->SetHandler(kTestAm, [](IncomingMessage) {});
  SECTION("in a send's callback") {
    pair.Connect();
    bool done = false;
    pair.to_b->Send(kTestAm, Bytes("x"), {}, [&](absl::Status) {
      pair.to_b.reset();
      done = true;
    });
    CHECK(pair.Until([&] { return done; }));
  }
  SECTION("in the handler of a message") {
    auto to_a = ValueOrThrow(pair.b->Connect(pair.a->address(), [](absl::Status) {}));
    pair.Connect();
    bool handled = false;
    pair.a->SetHandler(kTestAnswerAm, [&](IncomingMessage) {
      pair.to_b.reset();
      handled = true;
    });
    const auto payload = Pattern(10000, 1);
    bool done = false;
    to_a->Send(kTestAnswerAm, Bytes("x"), payload, [&](absl::Status) { done = true; });
    CHECK(pair.Until([&] { return handled && done; }));
  }
  SECTION("when its peer goes away") {
    pair.to_b = ValueOrThrow(pair.a->Connect(pair.b->address(), [&](absl::Status status) {
      pair.failure = status;
      pair.to_b.reset();
    }));
    bool sent = false;
    pair.to_b->Send(kTestAm, Bytes("x"), {}, [&](absl::Status) { sent = true; });
    REQUIRE(pair.Until([&] { return sent; }));
    pair.b.reset();
    CHECK(ProgressUntil({pair.a.get()}, [&] { return pair.failure.has_value(); }));
    CHECK(pair.to_b == nullptr);
  }
  pair.Settle();
}

TEST_CASE("a peer that closes its worker fails the endpoint, and later sends say so") {
  Pair pair("tcp");
  pair.b->SetHandler(kTestAm, [](IncomingMessage) {});
  pair.Connect();
  bool sent = false;
  pair.to_b->Send(kTestAm, Bytes("x"), {}, [&](absl::Status) { sent = true; });
  REQUIRE(pair.Until([&] { return sent; }));
  pair.b.reset();
  REQUIRE(ProgressUntil({pair.a.get()}, [&] { return pair.failure.has_value(); }));
  CHECK(pair.failure->code() == absl::StatusCode::kUnavailable);
  CHECK(pair.to_b->status().code() == absl::StatusCode::kUnavailable);
  std::optional<absl::Status> late;
  pair.to_b->Send(kTestAm, Bytes("x"), {}, [&](absl::Status s) { late = s; });
  CHECK_FALSE(late.has_value());
  REQUIRE(ProgressUntil({pair.a.get()}, [&] { return late.has_value(); }));
  CHECK(late->code() == absl::StatusCode::kUnavailable);
}

TEST_CASE("a sender without an endpoint is answered once and then ignored") {
  Pair pair("tcp");
  int requests = 0;
  int answers = 0;
  pair.b->SetHandler(kTestAm, [&](IncomingMessage message) {
    ++requests;
    pair.b->ReplyAndClose(message, kTestAnswerAm, Bytes("who are you?"));
  });
  pair.a->SetHandler(kTestAnswerAm, [&](IncomingMessage message) {
    CHECK(Text(message.header()) == "who are you?");
    CHECK(message.sender() == 0);
    ++answers;
  });
  pair.Connect();
  const auto payload = Pattern(1 << 20, 1);
  int sent = 0;
  for (int i = 0; i < 10; ++i) {
    pair.to_b->Send(kTestAm, Bytes("x"), payload, [&](absl::Status) { ++sent; });
  }
  CHECK(pair.Until([&] { return answers == 1 && sent == 10; }));
  CHECK(requests == 1);
  pair.to_b.reset();
  pair.Settle();
}

TEST_CASE("a message kept beyond its handler cannot be answered through its sender any more") {
  Pair pair("tcp");
  std::optional<IncomingMessage> held;
  pair.b->SetHandler(kTestAm, [&](IncomingMessage message) { held = std::move(message); });
  pair.Connect();
  pair.to_b->Send(kTestAm, Bytes("x"), {}, [](absl::Status) {});
  REQUIRE(pair.Until([&] { return held.has_value(); }));
  pair.to_b.reset();
  pair.b->ReplyAndClose(*held, kTestAnswerAm, Bytes("late"));
  pair.Settle();
}

TEST_CASE("a rendezvous that nobody receives completes at the sender") {
  Pair pair("tcp");
  pair.b->SetHandler(kTestAm, [](IncomingMessage) {});
  pair.Connect();
  const auto payload = Pattern(4 << 20, 1);
  std::optional<absl::Status> sent;
  pair.to_b->Send(kTestAm, Bytes("x"), payload, [&](absl::Status s) { sent = s; });
  REQUIRE(pair.Until([&] { return sent.has_value(); }));
  CHECK(sent->ok());
}

TEST_CASE("receiving from a sender that went away ends with an error") {
  Pair pair("tcp");
  // Without an endpoint to the sender UCX has nobody to tell.
  auto to_a = ValueOrThrow(pair.b->Connect(pair.a->address(), [](absl::Status) {}));
  std::vector<IncomingMessage> held;
  pair.b->SetHandler(kTestAm, [&](IncomingMessage message) { held.push_back(std::move(message)); });
  pair.Connect();
  const auto payload = Pattern(4 << 20, 1);
  std::optional<absl::Status> sent;
  pair.to_b->Send(kTestAm, Bytes("x"), payload, [&](absl::Status s) { sent = s; });
  REQUIRE(pair.Until([&] { return !held.empty(); }));
  REQUIRE_FALSE(held[0].is_eager());
  std::vector<std::byte> buffer(payload.size());
  std::optional<absl::Status> received;
  SECTION("before the receive starts") {
    pair.to_b.reset();
    REQUIRE(pair.Until([&] { return sent.has_value(); }));
    pair.Settle();
    held[0].ReceiveInto(buffer.data(), [&](absl::Status s) { received = s; });
  }
  SECTION("while it runs") {
    held[0].ReceiveInto(buffer.data(), [&](absl::Status s) { received = s; });
    pair.to_b.reset();
  }
  SECTION("whose whole worker is gone") {
    pair.to_b.reset();
    pair.a.reset();
    held[0].ReceiveInto(buffer.data(), [&](absl::Status s) { received = s; });
    REQUIRE(ProgressUntil({pair.b.get()}, [&] { return received.has_value(); }));
  }
  REQUIRE(pair.Until([&] { return received.has_value(); }));
  CHECK_FALSE(received->ok());
}

TEST_CASE("closing the endpoint to a sender ends the receives from it") {
  Pair pair("tcp");
  auto to_a = ValueOrThrow(pair.b->Connect(pair.a->address(), [](absl::Status) {}));
  std::vector<IncomingMessage> held;
  pair.b->SetHandler(kTestAm, [&](IncomingMessage message) { held.push_back(std::move(message)); });
  pair.Connect();
  const auto payload = Pattern(4 << 20, 1);
  pair.to_b->Send(kTestAm, Bytes("x"), payload, [](absl::Status) {});
  REQUIRE(pair.Until([&] { return !held.empty(); }));
  std::vector<std::byte> buffer(payload.size());
  std::optional<absl::Status> received;
  // The sender is not progressed: it might as well be stopped.
  held[0].ReceiveInto(buffer.data(), [&](absl::Status s) { received = s; });
  for (int i = 0; i < 100; ++i) pair.b->Progress();
  CHECK_FALSE(received.has_value());
  to_a.reset();
  REQUIRE(ProgressUntil({pair.b.get()}, [&] { return received.has_value(); }));
  CHECK_FALSE(received->ok());
}

TEST_CASE("a worker that is destroyed first leaves its endpoints and messages harmless") {
  Pair pair("tcp");
  std::vector<IncomingMessage> held;
  pair.b->SetHandler(kTestAm, [&](IncomingMessage message) { held.push_back(std::move(message)); });
  pair.Connect();
  const auto small = Pattern(100, 1);
  const auto large = Pattern(8 << 20, 1);
  int calls = 0;
  pair.to_b->Send(kTestAm, Bytes("x"), small, [&](absl::Status) { ++calls; });
  pair.to_b->Send(kTestAm, Bytes("x"), large, [&](absl::Status) { ++calls; });
  REQUIRE(pair.Until([&] { return held.size() == 2; }));
  pair.b.reset();
  CHECK(held[0].eager_payload().empty());
  std::vector<std::byte> buffer(large.size());
  std::optional<absl::Status> received;
  held[1].ReceiveInto(buffer.data(), [&](absl::Status s) { received = s; });
  CHECK((received.has_value() && !received->ok()));
  held.clear();
  pair.a.reset();
  CHECK(calls == 2);
  CHECK_FALSE(pair.to_b->status().ok());
  pair.to_b->Send(kTestAm, Bytes("x"), small, [&](absl::Status) { ++calls; });
  CHECK(calls == 3);
}

}  // namespace
}  // namespace latentd
