// Connections that end with many large messages on the way in both directions, again and again.
// More rounds: LATENTD_ROUNDS. Without ucx_events.h about one in thirty corrupts the heap.
#include <cstdlib>
#include <memory>
#include <random>
#include <utility>
#include <vector>

#include "catch2/catch.hpp"
#include "transport/ucx_events.h"
#include "transport/worker.h"
#include "transport/worker_test_util.h"

namespace latentd {
namespace {

constexpr int kMessages = 24;

// Two workers of which each sends to the other what takes many turns of the socket.
struct Crossfire {
  explicit Crossfire(const std::shared_ptr<Context>& context)
      : a(ValueOrThrow(Worker::Create(context))), b(ValueOrThrow(Worker::Create(context))) {
    b->SetHandler(kTestAm, [this](IncomingMessage message) {
      if (!answered) {
        answered = true;
        to_a = ValueOrThrow(b->Connect(a->address(), [this](absl::Status) { to_a.reset(); }));
      }
      if (to_a == nullptr) return;
      Send(*to_a);
      Receive(std::move(message));
    });
    a->SetHandler(kTestAm, [this](IncomingMessage message) {
      if (to_b != nullptr) Receive(std::move(message));
    });
    to_b = ValueOrThrow(a->Connect(b->address(), [this](absl::Status) { to_b.reset(); }));
    for (int i = 0; i < kMessages; ++i) Send(*to_b);
  }

  void Send(Endpoint& endpoint) {
    auto payload = std::make_shared<std::vector<std::byte>>(1 << 20);
    ++owed;
    endpoint.Send(kTestAm, Bytes("x"), *payload, [this, payload](absl::Status) { --owed; });
  }

  void Receive(IncomingMessage message) {
    auto buffer = std::make_shared<std::vector<std::byte>>(message.payload_bytes());
    auto kept = std::make_shared<IncomingMessage>(std::move(message));
    ++owed;
    kept->ReceiveInto(buffer->data(), [this, buffer, kept](absl::Status) { --owed; });
  }

  void Turn(unsigned times) {
    for (unsigned i = 0; i < times; ++i) {
      if (a != nullptr) a->Progress();
      if (b != nullptr) b->Progress();
    }
  }

  int owed = 0;  // callbacks
  bool answered = false;
  std::unique_ptr<Worker> a;
  std::unique_ptr<Worker> b;
  std::unique_ptr<Endpoint> to_a;
  std::unique_ptr<Endpoint> to_b;
};

int Rounds() {
  const char* rounds = std::getenv("LATENTD_ROUNDS");
  return rounds == nullptr ? 40 : std::atoi(rounds);
}

TEST_CASE("a connection may end at any moment of many large messages, whoever ends it") {
  constexpr uint32_t kSeed = 1;
  std::mt19937 random(kSeed);
  const auto context = MakeContext({"tcp"});
  for (int round = 0; round < Rounds(); ++round) {
    INFO("seed " << kSeed << ", round " << round);
    Crossfire crossfire(context);
    crossfire.Turn(random() % 2000);
    switch (random() % 5) {
      case 0:
        crossfire.to_a.reset();
        break;
      case 1:
        crossfire.to_b.reset();
        break;
      case 2:
        crossfire.to_a.reset();
        crossfire.to_b.reset();
        break;
      case 3:
        crossfire.a.reset();
        break;
      case 4:
        crossfire.b.reset();
        break;
    }
    crossfire.Turn(random() % 1000);
    crossfire.to_b.reset();
    crossfire.to_a.reset();
    crossfire.Turn(random() % 1000);
    crossfire.a.reset();
    crossfire.b.reset();
    CHECK(crossfire.owed == 0);
  }
}

TEST_CASE("UCX's tcp hears of its events in our order") {
  Pair pair("tcp");
  pair.Settle();
  CHECK(UcxEventsAreOrdered());
}

}  // namespace
}  // namespace latentd
