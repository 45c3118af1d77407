// The lane's small parts, each for itself.
#include <poll.h>

#include <catch2/catch.hpp>

#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "daemon/lane/idle_waiter.h"
#include "daemon/lane/lane_stats.h"
#include "daemon/lane/log_gate.h"
#include "daemon/lane/mailbox.h"
#include "daemon/lane/steady_time.h"

namespace latentd {
namespace {

bool Readable(int fd) {
  pollfd poll_fd = {.fd = fd, .events = POLLIN};
  return poll(&poll_fd, 1, 0) == 1;
}

TEST_CASE("a mailbox runs what many threads post, each thread's in order") {
  auto mailbox = Mailbox::Create();
  REQUIRE(mailbox.ok());
  CHECK_FALSE((*mailbox)->Run());
  std::vector<int> last(4, -1);
  int in_order = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 1000; ++i) {
        (*mailbox)->Post([&, t, i] {
          in_order += last[t] == i - 1;
          last[t] = i;
        });
      }
    });
  }
  while (in_order < 4000 && SteadyNow() < absl::InfiniteFuture()) (*mailbox)->Run();
  for (auto& thread : threads) thread.join();
  CHECK(in_order == 4000);
}

TEST_CASE("a mailbox's descriptor is readable while something waits") {
  auto mailbox = Mailbox::Create();
  REQUIRE(mailbox.ok());
  CHECK_FALSE(Readable((*mailbox)->fd()));
  (*mailbox)->Post([] {});
  CHECK(Readable((*mailbox)->fd()));
  CHECK((*mailbox)->pending());
  CHECK((*mailbox)->Run());
  CHECK_FALSE(Readable((*mailbox)->fd()));
  CHECK_FALSE((*mailbox)->pending());
}

TEST_CASE("a closed mailbox runs what it has and takes no more") {
  auto mailbox = Mailbox::Create();
  REQUIRE(mailbox.ok());
  int runs = 0;
  CHECK((*mailbox)->Post([&] { ++runs; }));
  (*mailbox)->Close();
  CHECK_FALSE((*mailbox)->Post([&] { ++runs; }));
  (*mailbox)->Run();
  CHECK(runs == 1);
}

TEST_CASE("an idle waiter spins as long as its policy says, and a post ends its sleep") {
  auto mailbox = Mailbox::Create();
  auto other = Mailbox::Create();
  REQUIRE((mailbox.ok() && other.ok()));
  const auto slept = [&](IdlePolicy policy, absl::Duration since_work, absl::Duration patience) {
    auto waiter = IdleWaiter::Create(policy, absl::Seconds(1), (*other)->fd(), (*mailbox)->fd());
    REQUIRE(waiter.ok());
    const absl::Time now = SteadyNow();
    (*waiter)->NoteWork(now - since_work);
    bool armed = false;
    (*waiter)->Wait(now, now + patience, [&] { return armed = true; });
    return std::pair(armed, SteadyNow() - now);
  };
  CHECK_FALSE(slept(IdlePolicy::kPoll, absl::Hours(1), absl::Seconds(60)).first);
  CHECK_FALSE(slept(IdlePolicy::kAdaptive, absl::Milliseconds(1), absl::Seconds(60)).first);
  CHECK(slept(IdlePolicy::kAdaptive, absl::Hours(1), absl::Milliseconds(20)).second >=
        absl::Milliseconds(20));
  std::thread poster([&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    (*mailbox)->Post([] {});
  });
  CHECK(slept(IdlePolicy::kSleep, absl::ZeroDuration(), absl::Seconds(60)).second <
        absl::Seconds(30));
  poster.join();
}

TEST_CASE("a log gate lets a few messages a second through and counts the rest") {
  LogGate gate(2);
  const absl::Time now = absl::UnixEpoch();
  CHECK((gate.Open(now) && gate.Open(now)));
  CHECK_FALSE(gate.Open(now));
  CHECK_FALSE(gate.Open(now + absl::Milliseconds(999)));
  CHECK(gate.Open(now + absl::Seconds(1)));
  CHECK(gate.TakeHeldBack() == 2);
  CHECK(gate.TakeHeldBack() == 0);
}

TEST_CASE("every code of the wire is counted in a place of its own") {
  CHECK(WireCodeIndex(wire::Code::kOk) == 0);
  CHECK(WireCodeIndex(wire::Code::kUnauthenticated) == 16);
  CHECK(WireCodeIndex(wire::Code::kWrongEpoch) == 17);
  CHECK(WireCodeIndex(wire::Code::kLayoutMismatch) == 19);
  CHECK(WireCodeIndex(static_cast<wire::Code>(60000)) == kErrorCodeCount - 1);
}

}  // namespace
}  // namespace latentd
