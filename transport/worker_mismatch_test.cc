// Peers whose transports differ.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "catch2/catch.hpp"
#include "transport/worker.h"
#include "transport/worker_test_util.h"

namespace latentd {
namespace {

using Names = std::vector<std::string>;

struct Two {
  Two(Names of_a, Names of_b)
      : a(ValueOrThrow(Worker::Create(MakeContext(std::move(of_a))))),
        b(ValueOrThrow(Worker::Create(MakeContext(std::move(of_b))))) {
    b->SetHandler(kTestAm, [this](IncomingMessage) {
      to_a = ValueOrThrow(b->Connect(a->address(), [](absl::Status) {}));
      to_a->Send(kTestAnswerAm, Bytes("y"), {}, [](absl::Status) {});
    });
    a->SetHandler(kTestAnswerAm, [this](IncomingMessage) { answered = true; });
  }

  std::unique_ptr<Worker> a;
  std::unique_ptr<Worker> b;
  std::unique_ptr<Endpoint> to_a;
  bool answered = false;
};

TEST_CASE("peers without a transport in common do not connect, and are told both lists") {
  const auto [of_a, of_b] =
      GENERATE(std::pair(Names{"shm"}, Names{}), std::pair(Names{"posix"}, Names{}),
               std::pair(Names{"sysv"}, Names{}), std::pair(Names{}, Names{"shm"}),
               std::pair(Names{"shm"}, Names{"tcp"}), std::pair(Names{"tcp"}, Names{"shm"}),
               std::pair(Names{"posix"}, Names{"sysv"}));
  Two two(of_a, of_b);
  const auto to_b = two.a->Connect(two.b->address(), [](absl::Status) {});
  CHECK(to_b.status().code() == absl::StatusCode::kFailedPrecondition);
  const std::string message(to_b.status().message());
  CHECK_THAT(message, Catch::Contains((of_a.empty() ? "^shm" : of_a[0]) + " here"));
  CHECK_THAT(message, Catch::Contains((of_b.empty() ? "^shm" : of_b[0]) + " there"));
  for (int i = 0; i < 1000; ++i) {
    two.a->Progress();
    two.b->Progress();
  }
}

TEST_CASE("peers with a transport in common use it, whatever else one of them has") {
  const auto [of_a, of_b] =
      GENERATE(std::pair(Names{"tcp", "shm"}, Names{}), std::pair(Names{"tcp", "sysv"}, Names{}),
               std::pair(Names{}, Names{"tcp", "shm"}), std::pair(Names{"tcp"}, Names{}),
               std::pair(Names{}, Names{"tcp"}), std::pair(Names{}, Names{}),
               std::pair(Names{"all"}, Names{"tcp", "posix"}),
               std::pair(Names{"posix"}, Names{"shm"}), std::pair(Names{"shm"}, Names{"posix"}),
               std::pair(Names{"tcp", "posix"}, Names{"tcp", "sysv"}),
               std::pair(Names{"tcp", "self"}, Names{}), std::pair(Names{"tcp", "cma"}, Names{}));
  Two two(of_a, of_b);
  auto to_b = ValueOrThrow(two.a->Connect(two.b->address(), [](absl::Status) {}));
  INFO(to_b->Transports());
  to_b->Send(kTestAm, Bytes("x"), {}, [](absl::Status) {});
  CHECK(ProgressUntil({two.a.get(), two.b.get()}, [&] { return two.answered; }));
}

}  // namespace
}  // namespace latentd
