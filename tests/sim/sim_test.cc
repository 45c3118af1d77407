// Some seeds of the simulation, for every build; tests/sim:simulate runs many.
#include <string>

#include <catch2/catch.hpp>

#include "tests/sim/sim_world.h"

namespace latentd::sim {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr uint64_t kSeeds = 10;  // each takes ten times as long
#else
constexpr uint64_t kSeeds = 60;
#endif

TEST_CASE("no seed breaks an invariant") {
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    SimWorld world({.seed = seed});
    for (const std::string& breach : world.Run()) {
      FAIL_CHECK("replay with: simulate --seed " << seed << " --verbose\n" << breach);
    }
  }
}

TEST_CASE("a seed replays") {
  SimWorld first({.seed = 7});
  SimWorld second({.seed = 7});
  CHECK(first.Run() == second.Run());
  CHECK(first.counts().events == second.counts().events);
  CHECK(first.counts().answers == second.counts().answers);
}

}  // namespace
}  // namespace latentd::sim
