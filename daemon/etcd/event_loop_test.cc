#include "daemon/etcd/event_loop.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <future>
#include <memory>
#include <string>
#include <vector>

namespace latentd {
namespace {

std::unique_ptr<EventLoop> MakeLoop() {
  auto loop = EventLoop::Start("test");
  REQUIRE(loop.ok());
  return *std::move(loop);
}

// Runs `closure` on the loop and waits for it.
void RunOn(EventLoop& loop, std::function<void()> closure) {
  std::promise<void> done;
  loop.Post([&] {
    closure();
    done.set_value();
  });
  done.get_future().wait();
}

TEST_CASE("closures of one thread run in their order, on the loop's thread") {
  const auto loop = MakeLoop();
  std::vector<int> order;
  bool on_thread = true;
  for (int i = 0; i < 1000; ++i) {
    loop->Post([&, i] {
      order.push_back(i);
      on_thread = on_thread && loop->OnThread();
    });
  }
  RunOn(*loop, [] {});
  CHECK(on_thread);
  CHECK_FALSE(loop->OnThread());
  REQUIRE(order.size() == 1000);
  CHECK(std::is_sorted(order.begin(), order.end()));
}

TEST_CASE("timers run in the order of their times, and equals in that of their making") {
  const auto loop = MakeLoop();
  std::string order;
  std::promise<void> done;
  absl::Time started;
  absl::Time ended;
  loop->Post([&] {
    started = loop->now();
    loop->After(absl::Milliseconds(20), [&] {
      order += "d";
      ended = loop->now();
      done.set_value();
    });
    loop->After(absl::Milliseconds(5), [&] { order += "c"; });
    loop->After(-absl::Seconds(1), [&] { order += "a"; });
    loop->After(absl::ZeroDuration(), [&] { order += "b"; });
    loop->After(absl::InfiniteDuration(), [&] { order += "never"; });
  });
  done.get_future().wait();
  CHECK(order == "abcd");
  CHECK(ended - started >= absl::Milliseconds(20));
}

TEST_CASE("a cancelled timer does not run, not even one that is due") {
  const auto loop = MakeLoop();
  std::string order;
  std::promise<void> done;
  loop->Post([&] {
    auto second = std::make_shared<TimerId>();
    loop->After(absl::ZeroDuration(), [&order, &loop, second] {
      order += "first";
      loop->Cancel(*second);
    });
    *second = loop->After(absl::ZeroDuration(), [&] { order += "second"; });
    const TimerId last = loop->After(absl::Milliseconds(5), [&] { done.set_value(); });
    loop->Cancel(TimerId{});
    loop->Cancel(TimerId{static_cast<uint64_t>(last) + 1});
  });
  done.get_future().wait();
  CHECK(order == "first");
}

TEST_CASE("timers that set timers leave posted closures their turn") {
  const auto loop = MakeLoop();
  bool stop = false;
  std::function<void()> again = [&] {
    if (!stop) loop->After(absl::ZeroDuration(), again);
  };
  RunOn(*loop, again);
  RunOn(*loop, [&] { stop = true; });
  CHECK(stop);
}

TEST_CASE("what has not run when the loop stops never does, and is let go") {
  auto loop = MakeLoop();
  const auto held = std::make_shared<int>(0);
  std::promise<void> entered;
  std::promise<void> leave;
  loop->Post([&, held] {
    loop->After(absl::ZeroDuration(), [held] { ++*held; });
    loop->After(absl::Hours(1), [held] { ++*held; });
    entered.set_value();
    leave.get_future().wait();
  });
  entered.get_future().wait();
  std::thread stopper([&] { loop->Stop(); });
  // Until the stop is known, which is when a closure is let go at once.
  for (long before = 0; before != held.use_count();) {
    before = held.use_count();
    loop->Post([held] { ++*held; });
  }
  leave.set_value();
  stopper.join();
  CHECK(*held == 0);
  CHECK(held.use_count() == 1);
  loop->Post([held] { ++*held; });
  loop->After(absl::ZeroDuration(), [held] { ++*held; });
  loop->Stop();
  CHECK(held.use_count() == 1);
  loop.reset();
  CHECK(*held == 0);
}

}  // namespace
}  // namespace latentd
