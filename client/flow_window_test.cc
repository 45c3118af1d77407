#include "client/flow_window.h"

#include "catch2/catch.hpp"

namespace latentd {
namespace {

TEST_CASE("requests beyond the count wait until one is done") {
  FlowWindow window(2, 1000);
  CHECK(window.TryTake(1));
  CHECK(window.TryTake(1));
  CHECK_FALSE(window.TryTake(1));
  window.Give(1);
  CHECK(window.TryTake(1));
}

TEST_CASE("bytes beyond the bound wait until there is room") {
  FlowWindow window(10, 1000);
  CHECK(window.TryTake(600));
  CHECK_FALSE(window.TryTake(401));
  CHECK(window.TryTake(400));
  CHECK(window.bytes() == 1000);
  window.Give(600);
  CHECK(window.TryTake(600));
}

TEST_CASE("a request larger than the window goes alone") {
  FlowWindow window(10, 1000);
  CHECK(window.TryTake(5000));
  CHECK_FALSE(window.TryTake(1));
  window.Give(5000);
  CHECK(window.requests() == 0);
  CHECK(window.bytes() == 0);
}

}  // namespace
}  // namespace latentd
