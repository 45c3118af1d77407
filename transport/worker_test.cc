#include "transport/worker.h"

#include <poll.h>

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "catch2/catch.hpp"
#include "transport/ucx_address.h"
#include "transport/worker_test_util.h"

namespace latentd {
namespace {

TEST_CASE("a payload of any size arrives as it was sent, eager or by rendezvous") {
  const std::string transport = GENERATE("tcp", "shm");
  Pair pair(transport);
  std::map<std::string, std::vector<std::byte>> received;
  std::vector<IncomingMessage> held;
  int eager = 0;
  int rendezvous = 0;
  pair.b->SetHandler(kTestAm, [&](IncomingMessage message) {
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
    pair.to_b->Send(kTestAm, Bytes(name), payload, [&](absl::Status s) { sent = s; });
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
  pair.b->SetHandler(kTestAm, [&](IncomingMessage message) { held.push_back(std::move(message)); });
  pair.Connect();
  int sent = 0;
  for (uint32_t i = 0; i < 200; ++i) {
    const auto payload = Pattern(1000, i);
    bool done = false;
    pair.to_b->Send(kTestAm, Bytes(std::to_string(i)), payload, [&](absl::Status) { done = true; });
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
  pair.b->SetHandler(kTestAm, [&](IncomingMessage message) {
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
    pair.to_b->Send(kTestAm, Bytes(std::to_string(i)), payloads[i % payloads.size()],
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
  pair.b->SetHandler(kTestAm, [&](IncomingMessage message) {
    ++count;
    const auto [at, added] = senders.emplace(Text(message.header()), message.sender());
    CHECK(at->second == message.sender());
  });
  pair.Connect();
  auto other = ValueOrThrow(pair.a->Connect(pair.b->address(), [](absl::Status) {}));
  for (int i = 0; i < 3; ++i) {
    pair.to_b->Send(kTestAm, Bytes("first"), {}, [](absl::Status) {});
    other->Send(kTestAm, Bytes("second"), {}, [](absl::Status) {});
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
  pair.b->SetHandler(kTestAm, [&](IncomingMessage message) {
    to_a->Send(kTestAnswerAm, message.header(), {}, [](absl::Status s) { CHECK(s.ok()); });
  });
  pair.a->SetHandler(kTestAnswerAm, [&](IncomingMessage message) {
    CHECK(Text(message.header()) == "hello");
    ++answers;
  });
  for (int i = 0; i < 100; ++i) pair.to_b->Send(kTestAm, Bytes("hello"), {}, [](absl::Status) {});
  REQUIRE(pair.Until([&] { return answers == 100; }));
}

TEST_CASE("an idle worker sleeps on its descriptor and a message wakes it") {
  const std::string transport = GENERATE("tcp", "shm");
  Pair pair(transport);
  int received = 0;
  pair.b->SetHandler(kTestAm, [&](IncomingMessage) { ++received; });
  pair.Connect();
  pair.to_b->Send(kTestAm, Bytes("x"), {}, [](absl::Status) {});
  REQUIRE(pair.Until([&] { return received == 1; }));
  const auto arm = [&] { return ProgressUntil({pair.b.get()}, [&] { return pair.b->Arm(); }); };
  REQUIRE(arm());
  pollfd descriptor = {.fd = pair.b->event_fd(), .events = POLLIN, .revents = 0};
  CHECK(poll(&descriptor, 1, 0) == 0);
  pair.to_b->Send(kTestAm, Bytes("x"), {}, [](absl::Status) {});
  // The sender has to be progressed for the message to leave.
  CHECK(ProgressUntil({pair.a.get()}, [&] { return poll(&descriptor, 1, 0) == 1; }));
  CHECK(ProgressUntil({pair.b.get()}, [&] { return received == 2; }));
}

TEST_CASE("a worker with callbacks to run does not arm") {
  Pair pair("tcp");
  pair.b->SetHandler(kTestAm, [](IncomingMessage) {});
  pair.Connect();
  bool done = false;
  pair.to_b->Send(kTestAm, std::vector<std::byte>(pair.a->max_header_bytes() + 1), {},
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
  pair.b->SetHandler(kTestAm, [&](IncomingMessage message) { received = message.header().size(); });
  pair.Connect();
  const size_t largest = pair.a->max_header_bytes();
  CHECK(largest >= 4096);
  // Each of UCX's protocols packs the header its own way.
  for (const size_t payload : {0, 1, 1000, 16000, 18432, 147456, 250'000, 300'000, 1 << 20}) {
    received = 0;
    bool sent = false;
    const auto bytes = Pattern(payload, 2);
    pair.to_b->Send(kTestAm, Pattern(largest, 1), bytes, [&](absl::Status s) { sent = s.ok(); });
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

TEST_CASE("an address of an unknown version is refused, although its envelope is in order") {
  Pair pair("tcp");
  const std::string wrapped = pair.b->address();
  const auto good = UnwrapAddress(wrapped);
  REQUIRE(good.ok());
  std::string ucx(good->ucx);
  for (int flipped = 1; flipped < 16; ++flipped) {
    ucx[0] = static_cast<char>(good->ucx[0] ^ flipped);
    const auto endpoint =
        pair.a->Connect(WrapAddress({ucx, good->transports}), [](absl::Status) {});
    CHECK(endpoint.status().code() == absl::StatusCode::kInvalidArgument);
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
  pair.b->SetHandler(kTestAm, [&](IncomingMessage message) {
    held = std::move(message);
    held->ReceiveInto(dst, [&](absl::Status status) {
      CHECK(status.ok());
      received = true;
    });
  });
  pair.Connect();
  const auto pattern = Pattern(2 << 20, 5);
  std::copy(pattern.begin(), pattern.end(), arena.begin());
  pair.to_b->Send(kTestAm, Bytes("x"), std::span(arena).first(pattern.size()), [](absl::Status) {});
  REQUIRE(pair.Until([&] { return received; }));
  CHECK(std::equal(pattern.begin(), pattern.end(), dst));
  registration.reset();
}

TEST_CASE("an endpoint names the transports that carry it") {
  Pair pair("tcp");
  pair.b->SetHandler(kTestAm, [](IncomingMessage) {});
  pair.Connect();
  bool sent = false;
  pair.to_b->Send(kTestAm, Bytes("x"), {}, [&](absl::Status) { sent = true; });
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
