// The harness itself: a test that cannot fail proves nothing.
#include <signal.h>

#include <catch2/catch.hpp>
#include <cmath>
#include <set>

#include "tests/cluster/eventually.h"
#include "tests/cluster/loopback.h"
#include "tests/cluster/oracle.h"
#include "tests/cluster/process.h"

namespace latentd::testing {
namespace {

TEST_CASE("a command's exit code and both outputs come back") {
  const CommandResult result =
      RunCommand({"/bin/sh", "-c", "echo to out; echo to err >&2; exit 3"}, absl::Seconds(10));
  CHECK(result.end.exit_code == 3);
  CHECK(result.out == "to out\n");
  CHECK(result.err == "to err\n");
  CHECK_FALSE(result.timed_out);
}

TEST_CASE("a command that does not end is killed at its limit") {
  const CommandResult result = RunCommand({"/bin/sleep", "60"}, absl::Milliseconds(50));
  CHECK(result.timed_out);
  CHECK(result.end.signal == SIGKILL);
}

TEST_CASE("a process is gone when its object is") {
  pid_t pid = -1;
  {
    Process process({"/bin/sleep", "60"}, FreshFolder("process") + "/sleep");
    pid = process.pid();
    CHECK(process.Running());
    // Until it has become /bin/sleep it has what its parent had.
    CHECK(Eventually(absl::Seconds(10), [&] { return process.Use().threads == 1; }));
    CHECK(process.Use().fds >= 3);
    CHECK(process.Use().rss_bytes > 0);
  }
  CHECK(kill(pid, 0) == -1);
}

TEST_CASE("the processor time of a busy process grows") {
  Process process({"/bin/sh", "-c", "while :; do :; done"}, FreshFolder("process") + "/busy");
  CHECK(Eventually(absl::Seconds(10), [&] { return process.Use().cpu > absl::Milliseconds(50); }));
}

TEST_CASE("free ports are distinct") {
  const auto ports = FreePorts(20);
  CHECK(std::set(ports.begin(), ports.end()).size() == 20);
}

TEST_CASE("comparing tells right from wrong") {
  const std::vector<float> out = {3, 4};
  const std::vector<float> lse = {1};
  CHECK(Compare(out, lse, out, lse, 2).Within(0, 0));

  const std::vector<float> near = {3, 4.05f};
  CHECK(Compare(near, lse, out, lse, 2).out_rel_l2 == Approx(0.01).epsilon(1e-3));
  const std::vector<float> nan = {3, NAN};
  CHECK_FALSE(Compare(nan, lse, out, lse, 2).Within(1, 1));
  const std::vector<float> nan_lse = {NAN};
  CHECK_FALSE(Compare(out, nan_lse, out, lse, 2).Within(1, 1));

  const std::vector<float> empty = {0, 0};
  const std::vector<float> empty_lse = {-INFINITY};
  CHECK(Compare(empty, empty_lse, empty, empty_lse, 2).Within(0, 0));
  CHECK_FALSE(Compare(out, empty_lse, empty, empty_lse, 2).Within(1, 1));
  CHECK_FALSE(Compare(empty, lse, empty, empty_lse, 2).Within(1, 1));
}

TEST_CASE("attention over a chunk cut in two is that over the whole") {
  std::mt19937_64 random(7);
  const ChunkData whole = RandomChunk({1, 1}, 150, 1, RecordFormat::kBf16, random);
  ChunkData head = whole;
  ChunkData tail = whole;
  const auto first = whole.Layer(0, 0, 90);
  const auto second = whole.Layer(0, 90, 60);
  head.tokens = 90;
  head.records.assign(first.begin(), first.end());
  tail.tokens = 60;
  tail.records.assign(second.begin(), second.end());

  const auto rows = RandomRows(3 * 4, Geometry{}, random);
  const ExpectedPart one[] = {{&whole, 150}};
  const ExpectedPart two[] = {{&head, 90}, {&tail, 60}};
  const Partials a = Expect(rows, 3, 4, 0, 0.05f, true, one);
  const Partials b = Expect(rows, 3, 4, 0, 0.05f, true, two);
  CHECK(Compare(a.out, a.lse, b.out, b.lse, 512).Within(1e-5, 1e-5));
}

}  // namespace
}  // namespace latentd::testing
