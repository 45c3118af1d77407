#include "tools/trace.h"

#include <cstdlib>
#include <string>

#include "catch2/catch.hpp"

namespace latentd {
namespace {

TEST_CASE("a recorded trace is read whole") {
  const absl::StatusOr<Trace> trace = ReadTrace("tests/data/mla-h16-tiny.safetensors");
  INFO(trace.status().ToString());
  REQUIRE(trace.ok());
  CHECK(trace->name == "mla-h16-tiny");
  CHECK(trace->heads == 16);
  CHECK(trace->context == 333);
  CHECK(trace->steps == 8);
  CHECK(trace->tokens() == 341);
  CHECK(trace->visible(7) == 341);
  CHECK(trace->geometry == Geometry{512, 64});
  CHECK(trace->scale == Approx(0.13523378));
  REQUIRE(trace->layers.size() == 2);
  CHECK(trace->layers[1].records.size() == 341 * 576);
  CHECK(trace->layers[1].queries.size() == 8 * 16 * 576);
  CHECK(trace->layers[1].out.size() == 8 * 16 * 512);
  CHECK(trace->layers[1].lse.size() == 8 * 16);
}

TEST_CASE("a trace that is not there is named") {
  const absl::StatusOr<Trace> trace = ReadTrace("/nonexistent.safetensors");
  CHECK(absl::IsNotFound(trace.status()));
  CHECK_THAT(std::string(trace.status().message()),
             Catch::Matchers::Contains("/nonexistent.safetensors"));
}

}  // namespace
}  // namespace latentd
