#include "kernels/validate.h"

#include <catch2/catch.hpp>
#include <functional>
#include <limits>
#include <string>
#include <vector>

namespace latentd {
namespace {

// A valid problem: three tokens in two groups over two segments.
struct World {
  Geometry geometry{8, 4};
  std::vector<uint32_t> pages{0, 1};
  std::vector<Segment> segments{{pages.data(), 100, 5}, {pages.data(), 5, 0}};
  std::vector<Group> groups{{0, 2, 0, 2, true}, {2, 1, 1, 1, false}};
  std::vector<Bf16> rows = std::vector<Bf16>(3 * 2 * 12);
  std::vector<Bf16> out = std::vector<Bf16>(3 * 2 * 8);
  std::vector<float> lse = std::vector<float>(3 * 2);
  Problem problem{.tokens = 3, .heads = 2, .scale = 0.1f};

  absl::Status Validate() {
    problem.groups = groups;
    problem.segments = segments;
    problem.rows = rows.empty() ? nullptr : rows.data();
    problem.out = out.empty() ? nullptr : out.data();
    problem.lse = lse.empty() ? nullptr : lse.data();
    return ValidateProblem(problem, geometry);
  }
};

void RequireRefused(const std::string& what, const std::function<void(World&)>& spoil) {
  World world;
  REQUIRE(world.Validate().ok());
  spoil(world);
  const absl::Status status = world.Validate();
  REQUIRE(status.code() == absl::StatusCode::kInvalidArgument);
  REQUIRE_THAT(std::string(status.message()), Catch::Contains(what));
}

TEST_CASE("a problem's own fields are checked") {
  RequireRefused("0 heads", [](World& w) { w.problem.heads = 0; });
  RequireRefused("129 heads", [](World& w) { w.problem.heads = 129; });
  RequireRefused("scale inf",
                 [](World& w) { w.problem.scale = std::numeric_limits<float>::infinity(); });
  RequireRefused("scale",
                 [](World& w) { w.problem.scale = std::numeric_limits<float>::quiet_NaN(); });
  RequireRefused("output format 9",
                 [](World& w) { w.problem.out_format = static_cast<OutFormat>(9); });
  RequireRefused("no rows", [](World& w) { w.rows.clear(); });
  RequireRefused("no out", [](World& w) { w.out.clear(); });
  RequireRefused("no lse", [](World& w) { w.lse.clear(); });
}

TEST_CASE("groups have to cover the tokens in order") {
  RequireRefused("group 1 starts at token 1, expected 2",
                 [](World& w) { w.groups[1].first_token = 1; });
  RequireRefused("group 1 starts at token 2, expected 1", [](World& w) { w.groups[0].tokens = 1; });
  RequireRefused("group 1 has no tokens", [](World& w) { w.groups[1].tokens = 0; });
  RequireRefused("group 1 covers tokens 2 to 4", [](World& w) { w.groups[1].tokens = 2; });
  RequireRefused("group 1 covers tokens", [](World& w) { w.groups[1].tokens = ~0u; });
  RequireRefused("cover 2 tokens, expected 3", [](World& w) { w.groups.pop_back(); });
  RequireRefused("cover 0 tokens", [](World& w) { w.groups.clear(); });
}

TEST_CASE("segments have to exist and to have pages") {
  RequireRefused("group 1 names segments 1 to 3", [](World& w) { w.groups[1].segments = 2; });
  RequireRefused("group 0 names segments", [](World& w) { w.groups[0].first_segment = ~0u; });
  RequireRefused("group 0, segment 1: 5 visible tokens but no pages",
                 [](World& w) { w.segments[1].page_ids = nullptr; });
  RequireRefused("group 0, segment 0: 4294967295 visible tokens, expected at most",
                 [](World& w) { w.segments[0].visible_tokens = ~0u; });
  World world;
  world.segments[1] = {};
  REQUIRE(world.Validate().ok());
}

TEST_CASE("a problem without tokens needs no buffers") {
  World world;
  world.problem.tokens = 0;
  world.groups.clear();
  world.rows.clear();
  world.out.clear();
  world.lse.clear();
  REQUIRE(world.Validate().ok());
}

TEST_CASE("geometries are checked against the format") {
  REQUIRE(ValidateGeometry({512, 64}, RecordFormat::kBf16).ok());
  REQUIRE(ValidateGeometry({512, 64}, RecordFormat::kFp8).ok());
  REQUIRE(ValidateGeometry({1, 0}, RecordFormat::kBf16).ok());
  for (const auto& [geometry, format] : std::vector<std::pair<Geometry, RecordFormat>>{
           {{0, 64}, RecordFormat::kBf16},
           {{kMaxLatentWidth + 1, 64}, RecordFormat::kBf16},
           {{500, 64}, RecordFormat::kFp8},
           {{512, 63}, RecordFormat::kBf16},
           {{512, kMaxRopeWidth + 2}, RecordFormat::kBf16},
           {{512, 64}, static_cast<RecordFormat>(0)}}) {
    REQUIRE(ValidateGeometry(geometry, format).code() == absl::StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace latentd
