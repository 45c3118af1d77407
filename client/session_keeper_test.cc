#include "client/session_keeper.h"

#include <catch2/catch.hpp>

#include "routing/layout_proto.h"

namespace latentd {
namespace {

TEST_CASE("once the layout is known, opening a session carries all of it") {
  ControlOptions options;
  CHECK_FALSE(MakeOpenRequest(options).has_layout());
  Layout layout;
  layout.model = "tiny";
  layout.layers = 2;
  options.expected_layout = HashLayout(layout);
  options.layout = layout;
  const v1::OpenRequest request = MakeOpenRequest(options);
  CHECK(request.layout_hash() == ToInt(HashLayout(layout)));
  CHECK(*FromProto(request.layout()) == layout);
}

}  // namespace
}  // namespace latentd
