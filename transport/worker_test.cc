#include "transport/worker.h"

#include <poll.h>

#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "catch2/catch.hpp"
#include "transport/worker_test_util.h"

namespace latentd {
namespace {

constexpr unsigned kAm = 1;
constexpr unsigned kAnswerAm = 2;

// Two workers of one context and an endpoint from the first to the second.
struct Pair {
  explicit Pair(const std::string& transport) : context(MakeContext({transport})) {
    a = ValueOrThrow(Worker::Create(context));
    b = ValueOrThrow(Worker::Create(context));
  }
  void Connect() {
    to_b = ValueOrThrow(a->Connect(b->address(), [this](absl::Status s) { failure = s; }));
  }
  bool Until(const std::function<bool()>& condition) {
    return ProgressUntil({a.get(), b.get()}, condition);
  }

  // Gives late callbacks their chance to misbehave.
  void Settle() {
    for (int i = 0; i < 2000; ++i) {
      if (a != nullptr) a->Progress();
      if (b != nullptr) b->Progress();
    }
  }

  std::shared_ptr<Context> context;
  std::unique_ptr<Worker> a;
  std::unique_ptr<Worker> b;
  std::unique_ptr<Endpoint> to_b;
  std::optional<absl::Status> failure;
};

TEST_CASE("a payload of any size arrives as it was sent, eager or by rendezvous") {
  const std::string transport = GENERATE("tcp", "shm");
  Pair pair(transport);
  std::map<std::string, std::vector<std::byte>> received;
  std::vector<IncomingMessage> held;
  int eager = 0;
  int rendezvous = 0;
  pair.b->SetHandler(kAm, [&](IncomingMessage message) {
    (message.is_eager() ? eager : rendezvous)++;
    const std::string name = Text(message.header());
    auto& buffer = received["pending " + name];
    buffer.resize(message.payload_bytes());
    held.push_back(std::move(message));
    held.back().ReceiveInto(buffer.data(), [&, name](absl::Status status) {
      CHECK(status.ok());
      received[name] = std::move(received["pending " + name]);
    });
  });
  pair.Connect();
  const std::vector<size_t> sizes = {0,     1,     7,      4096,    8000,           18432,
                                     65535, 65536, 147456, 1 << 20, (4 << 20) + 13, 16 << 20};
  for (const size_t size : sizes) {
    const std::vector<std::byte> payload = Pattern(size, static_cast<uint32_t>(size));
    const std::string name = std::to_string(size);
    std::optional<absl::Status> sent;
    pair.to_b->Send(kAm, Bytes(name), payload, [&](absl::Status s) { sent = s; });
    CHECK_FALSE(sent.has_value());
    REQUIRE(pair.Until([&] { return sent.has_value() && received.count(name) != 0; }));
    CHECK(sent->ok());
    CHECK(received[name] == payload);
  }
  CHECK(eager > 0);
  CHECK(rendezvous > 0);
  CHECK(pair.to_b->status().ok());
  CHECK_FALSE(pair.failure.has_value());
}

TEST_CASE("an eager payload can be read in place as long as its message lives") {
  Pair pair("tcp");
  std::vector<IncomingMessage> held;
  pair.b->SetHandler(kAm, [&](IncomingMessage message) { held.push_back(std::move(message)); });
  pair.Connect();
  int sent = 0;
  for (uint32_t i = 0; i < 200; ++i) {
    const auto payload = Pattern(1000, i);
    bool done = false;
    pair.to_b->Send(kAm, Bytes(std::to_string(i)), payload, [&](absl::Status) { done = true; });
    REQUIRE(pair.Until([&] { return done; }));
    ++sent;
  }
  REQUIRE(pair.Until([&] { return held.size() == 200; }));
  for (uint32_t i = 0; i < 200; ++i) {
    CHECK(Text(held[i].header()) == std::to_string(i));
    REQUIRE(held[i].is_eager());
    CHECK(std::vector<std::byte>(held[i].eager_payload().begin(), held[i].eager_payload().end()) ==
          Pattern(1000, i));
  }
}

TEST_CASE("many messages in flight all arrive, and every callback runs once") {
  const std::string transport = GENERATE("tcp", "shm");
  Pair pair(transport);
  constexpr int kMessages = 500;
  const std::vector<size_t> sizes = {0, 100, 20000, 200000};
  std::vector<std::vector<std::byte>> payloads;
  for (const size_t size : sizes) payloads.push_back(Pattern(size, 1));

  std::map<int, std::pair<IncomingMessage, std::vector<std::byte>>> pending;
  int received = 0;
  int wrong = 0;
  pair.b->SetHandler(kAm, [&](IncomingMessage message) {
    const int index = std::stoi(Text(message.header()));
    auto& slot = pending[index];
    slot.second.resize(message.payload_bytes());
    slot.first = std::move(message);
    slot.first.ReceiveInto(slot.second.data(), [&, index](absl::Status status) {
      if (!status.ok() || pending[index].second != payloads[index % payloads.size()]) ++wrong;
      ++received;
      pending.erase(index);
    });
  });
  pair.Connect();
  std::vector<int> done(kMessages, 0);
  for (int i = 0; i < kMessages; ++i) {
    pair.to_b->Send(kAm, Bytes(std::to_string(i)), payloads[i % payloads.size()],
                    [&done, i](absl::Status status) { done[i] += status.ok() ? 1 : 100; });
  }
  REQUIRE(pair.Until([&] { return received == kMessages; }));
  REQUIRE(pair.Until([&] { return std::count(done.begin(), done.end(), 1) == kMessages; }));
  CHECK(wrong == 0);
}

TEST_CASE("messages of one endpoint have one sender, those of another have another") {
  Pair pair("tcp");
  std::map<std::string, uint64_t> senders;
  int count = 0;
  pair.b->SetHandler(kAm, [&](IncomingMessage message) {
    ++count;
    const auto [at, added] = senders.emplace(Text(message.header()), message.sender());
    CHECK(at->second == message.sender());
  });
  pair.Connect();
  auto other = ValueOrThrow(pair.a->Connect(pair.b->address(), [](absl::Status) {}));
  for (int i = 0; i < 3; ++i) {
    pair.to_b->Send(kAm, Bytes("first"), {}, [](absl::Status) {});
    other->Send(kAm, Bytes("second"), {}, [](absl::Status) {});
  }
  REQUIRE(pair.Until([&] { return count == 6; }));
  CHECK(senders["first"] != senders["second"]);
  CHECK(senders["first"] != 0);
}

TEST_CASE("both sides answer each other over endpoints of their own") {
  const std::string transport = GENERATE("tcp", "shm");
  Pair pair(transport);
  auto to_a = ValueOrThrow(pair.b->Connect(pair.a->address(), [](absl::Status) {}));
  pair.Connect();
  int answers = 0;
  pair.b->SetHandler(kAm, [&](IncomingMessage message) {
    to_a->Send(kAnswerAm, message.header(), {}, [](absl::Status s) { CHECK(s.ok()); });
  });
  pair.a->SetHandler(kAnswerAm, [&](IncomingMessage message) {
    CHECK(Text(message.header()) == "hello");
    ++answers;
  });
  for (int i = 0; i < 100; ++i) pair.to_b->Send(kAm, Bytes("hello"), {}, [](absl::Status) {});
  REQUIRE(pair.Until([&] { return answers == 100; }));
}

TEST_CASE("a client that comes back on the same worker is answered, also after it was ignored") {
  const std::string transport = GENERATE("tcp", "shm");
  Pair pair(transport);
  std::unique_ptr<Endpoint> to_a;
  bool known = false;
  int requests = 0;
  int answers = 0;
  pair.b->SetHandler(kAm, [&](IncomingMessage message) {
    ++requests;
    if (known && to_a == nullptr) {
      to_a = ValueOrThrow(pair.b->Connect(pair.a->address(), [](absl::Status) {}));
    }
    if (known) {
      to_a->Send(kAnswerAm, message.header(), {}, [](absl::Status s) { CHECK(s.ok()); });
    }
  });
  pair.a->SetHandler(kAnswerAm, [&](IncomingMessage) { ++answers; });
  for (int round = 0; round < 12; ++round) {
    INFO(transport << ", round " << round);
    known = round % 3 != 0;
    pair.failure.reset();
    pair.Connect();
    const int requests_before = requests;
    const int answers_before = answers;
    for (int i = 0; i < 3; ++i) pair.to_b->Send(kAm, Bytes("x"), {}, [](absl::Status) {});
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
  pair.b->SetHandler(kAm, [&](IncomingMessage message) { held.push_back(std::move(message)); });
  pair.Connect();
  const auto payload = Pattern(4 << 20, 1);
  constexpr int kSends = 20;
  std::vector<int> calls(kSends, 0);
  int failed = 0;
  for (int i = 0; i < kSends; ++i) {
    pair.to_b->Send(kAm, Bytes("x"), payload, [&, i](absl::Status status) {
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
  pair.b->SetHandler(kAm, [](IncomingMessage) {});
  SECTION("in a send's callback") {
    pair.Connect();
    bool done = false;
    pair.to_b->Send(kAm, Bytes("x"), {}, [&](absl::Status) {
      pair.to_b.reset();
      done = true;
    });
    CHECK(pair.Until([&] { return done; }));
  }
  SECTION("in the handler of a message") {
    auto to_a = ValueOrThrow(pair.b->Connect(pair.a->address(), [](absl::Status) {}));
    pair.Connect();
    bool handled = false;
    pair.a->SetHandler(kAnswerAm, [&](IncomingMessage) {
      pair.to_b.reset();
      handled = true;
    });
    const auto payload = Pattern(10000, 1);
    bool done = false;
    to_a->Send(kAnswerAm, Bytes("x"), payload, [&](absl::Status) { done = true; });
    CHECK(pair.Until([&] { return handled && done; }));
  }
  SECTION("when its peer goes away") {
    pair.to_b = ValueOrThrow(pair.a->Connect(pair.b->address(), [&](absl::Status status) {
      pair.failure = status;
      pair.to_b.reset();
    }));
    bool sent = false;
    pair.to_b->Send(kAm, Bytes("x"), {}, [&](absl::Status) { sent = true; });
    REQUIRE(pair.Until([&] { return sent; }));
    pair.b.reset();
    CHECK(ProgressUntil({pair.a.get()}, [&] { return pair.failure.has_value(); }));
    CHECK(pair.to_b == nullptr);
  }
  pair.Settle();
}

TEST_CASE("a peer that closes its worker fails the endpoint, and later sends say so") {
  Pair pair("tcp");
  pair.b->SetHandler(kAm, [](IncomingMessage) {});
  pair.Connect();
  bool sent = false;
  pair.to_b->Send(kAm, Bytes("x"), {}, [&](absl::Status) { sent = true; });
  REQUIRE(pair.Until([&] { return sent; }));
  pair.b.reset();
  REQUIRE(ProgressUntil({pair.a.get()}, [&] { return pair.failure.has_value(); }));
  CHECK(pair.failure->code() == absl::StatusCode::kUnavailable);
  CHECK(pair.to_b->status().code() == absl::StatusCode::kUnavailable);
  std::optional<absl::Status> late;
  pair.to_b->Send(kAm, Bytes("x"), {}, [&](absl::Status s) { late = s; });
  CHECK_FALSE(late.has_value());
  REQUIRE(ProgressUntil({pair.a.get()}, [&] { return late.has_value(); }));
  CHECK(late->code() == absl::StatusCode::kUnavailable);
}

TEST_CASE("a sender without an endpoint is answered once and then ignored") {
  Pair pair("tcp");
  int requests = 0;
  int answers = 0;
  pair.b->SetHandler(kAm, [&](IncomingMessage message) {
    ++requests;
    pair.b->ReplyAndClose(message, kAnswerAm, Bytes("who are you?"));
  });
  pair.a->SetHandler(kAnswerAm, [&](IncomingMessage message) {
    CHECK(Text(message.header()) == "who are you?");
    CHECK(message.sender() == 0);
    ++answers;
  });
  pair.Connect();
  const auto payload = Pattern(1 << 20, 1);
  int sent = 0;
  for (int i = 0; i < 10; ++i) {
    pair.to_b->Send(kAm, Bytes("x"), payload, [&](absl::Status) { ++sent; });
  }
  CHECK(pair.Until([&] { return answers == 1 && sent == 10; }));
  CHECK(requests == 1);
  pair.to_b.reset();
  pair.Settle();
}

TEST_CASE("a message kept beyond its handler cannot be answered through its sender any more") {
  Pair pair("tcp");
  std::optional<IncomingMessage> held;
  pair.b->SetHandler(kAm, [&](IncomingMessage message) { held = std::move(message); });
  pair.Connect();
  pair.to_b->Send(kAm, Bytes("x"), {}, [](absl::Status) {});
  REQUIRE(pair.Until([&] { return held.has_value(); }));
  pair.to_b.reset();
  pair.b->ReplyAndClose(*held, kAnswerAm, Bytes("late"));
  pair.Settle();
}

TEST_CASE("a rendezvous that nobody receives completes at the sender") {
  Pair pair("tcp");
  pair.b->SetHandler(kAm, [](IncomingMessage) {});
  pair.Connect();
  const auto payload = Pattern(4 << 20, 1);
  std::optional<absl::Status> sent;
  pair.to_b->Send(kAm, Bytes("x"), payload, [&](absl::Status s) { sent = s; });
  REQUIRE(pair.Until([&] { return sent.has_value(); }));
  CHECK(sent->ok());
}

TEST_CASE("receiving from a sender that went away ends with an error") {
  Pair pair("tcp");
  // Without an endpoint to the sender UCX has nobody to tell.
  auto to_a = ValueOrThrow(pair.b->Connect(pair.a->address(), [](absl::Status) {}));
  std::vector<IncomingMessage> held;
  pair.b->SetHandler(kAm, [&](IncomingMessage message) { held.push_back(std::move(message)); });
  pair.Connect();
  const auto payload = Pattern(4 << 20, 1);
  std::optional<absl::Status> sent;
  pair.to_b->Send(kAm, Bytes("x"), payload, [&](absl::Status s) { sent = s; });
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
  pair.b->SetHandler(kAm, [&](IncomingMessage message) { held.push_back(std::move(message)); });
  pair.Connect();
  const auto payload = Pattern(4 << 20, 1);
  pair.to_b->Send(kAm, Bytes("x"), payload, [](absl::Status) {});
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
  pair.b->SetHandler(kAm, [&](IncomingMessage message) { held.push_back(std::move(message)); });
  pair.Connect();
  const auto small = Pattern(100, 1);
  const auto large = Pattern(8 << 20, 1);
  int calls = 0;
  pair.to_b->Send(kAm, Bytes("x"), small, [&](absl::Status) { ++calls; });
  pair.to_b->Send(kAm, Bytes("x"), large, [&](absl::Status) { ++calls; });
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
  pair.to_b->Send(kAm, Bytes("x"), small, [&](absl::Status) { ++calls; });
  CHECK(calls == 3);
}

TEST_CASE("an idle worker sleeps on its descriptor and a message wakes it") {
  const std::string transport = GENERATE("tcp", "shm");
  Pair pair(transport);
  int received = 0;
  pair.b->SetHandler(kAm, [&](IncomingMessage) { ++received; });
  pair.Connect();
  pair.to_b->Send(kAm, Bytes("x"), {}, [](absl::Status) {});
  REQUIRE(pair.Until([&] { return received == 1; }));
  const auto arm = [&] { return ProgressUntil({pair.b.get()}, [&] { return pair.b->Arm(); }); };
  REQUIRE(arm());
  pollfd descriptor = {.fd = pair.b->event_fd(), .events = POLLIN, .revents = 0};
  CHECK(poll(&descriptor, 1, 0) == 0);
  pair.to_b->Send(kAm, Bytes("x"), {}, [](absl::Status) {});
  // The sender has to be progressed for the message to leave.
  CHECK(ProgressUntil({pair.a.get()}, [&] { return poll(&descriptor, 1, 0) == 1; }));
  CHECK(ProgressUntil({pair.b.get()}, [&] { return received == 2; }));
}

TEST_CASE("a worker with callbacks to run does not arm") {
  Pair pair("tcp");
  pair.b->SetHandler(kAm, [](IncomingMessage) {});
  pair.Connect();
  bool done = false;
  pair.to_b->Send(kAm, std::vector<std::byte>(pair.a->max_header_bytes() + 1), {},
                  [&](absl::Status status) {
                    CHECK(status.code() == absl::StatusCode::kInvalidArgument);
                    done = true;
                  });
  CHECK_FALSE(pair.a->Arm());
  REQUIRE(pair.Until([&] { return done; }));
}

TEST_CASE("a header may be as large as the worker says") {
  const std::string transport = GENERATE("tcp", "shm");
  Pair pair(transport);
  size_t received = 0;
  pair.b->SetHandler(kAm, [&](IncomingMessage message) { received = message.header().size(); });
  pair.Connect();
  const size_t largest = pair.a->max_header_bytes();
  CHECK(largest >= 4096);
  // Each of UCX's protocols packs the header its own way.
  for (const size_t payload : {0, 1, 1000, 16000, 18432, 147456, 250'000, 300'000, 1 << 20}) {
    received = 0;
    bool sent = false;
    const auto bytes = Pattern(payload, 2);
    pair.to_b->Send(kAm, Pattern(largest, 1), bytes, [&](absl::Status s) { sent = s.ok(); });
    REQUIRE(pair.Until([&] { return received == largest && sent; }));
  }
}

TEST_CASE("damaged addresses are refused before UCX sees them") {
  Pair pair("tcp");
  std::string address = pair.b->address();
  for (const std::string& bad :
       {std::string(), std::string("x"), address.substr(0, address.size() - 1), address + "x",
        std::string(100, '\0')}) {
    CHECK_FALSE(pair.a->Connect(bad, [](absl::Status) {}).ok());
  }
  for (size_t i = 0; i < address.size(); ++i) {
    address[i] ^= 1;
    CHECK_FALSE(pair.a->Connect(address, [](absl::Status) {}).ok());
    address[i] ^= 1;
  }
}

TEST_CASE("messages move through registered memory") {
  Pair pair("tcp");
  std::vector<std::byte> arena(8 << 20);
  auto registration = ValueOrThrow(pair.context->RegisterMemory(arena.data(), arena.size()));
  CHECK_FALSE(pair.context->RegisterMemory(nullptr, 10).ok());
  std::optional<IncomingMessage> held;
  bool received = false;
  std::byte* dst = arena.data() + (4 << 20);
  pair.b->SetHandler(kAm, [&](IncomingMessage message) {
    held = std::move(message);
    held->ReceiveInto(dst, [&](absl::Status status) {
      CHECK(status.ok());
      received = true;
    });
  });
  pair.Connect();
  const auto pattern = Pattern(2 << 20, 5);
  std::copy(pattern.begin(), pattern.end(), arena.begin());
  pair.to_b->Send(kAm, Bytes("x"), std::span(arena).first(pattern.size()), [](absl::Status) {});
  REQUIRE(pair.Until([&] { return received; }));
  CHECK(std::equal(pattern.begin(), pattern.end(), dst));
  registration.reset();
}

TEST_CASE("an endpoint names the transports that carry it") {
  Pair pair("tcp");
  pair.b->SetHandler(kAm, [](IncomingMessage) {});
  pair.Connect();
  bool sent = false;
  pair.to_b->Send(kAm, Bytes("x"), {}, [&](absl::Status) { sent = true; });
  REQUIRE(pair.Until([&] { return sent; }));
  CHECK(pair.to_b->Transports() == "tcp/lo");
}

TEST_CASE("transports that do not exist are refused by name") {
  const auto context = Context::Create({.transports = {"carrier_pigeon"}});
  REQUIRE_FALSE(context.ok());
  CHECK(std::string(context.status().message()).find("carrier_pigeon") != std::string::npos);
}

}  // namespace
}  // namespace latentd
