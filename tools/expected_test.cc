#include "tools/expected.h"

#include "catch2/catch.hpp"
#include "tools/statistics.h"

namespace latentd {
namespace {

Trace Tiny() {
  absl::StatusOr<Trace> trace = ReadTrace("tests/data/mla-h16-tiny.safetensors");
  REQUIRE(trace.ok());
  trace->steps = 2;  // the fp64 reference takes its time
  for (TraceLayer& layer : trace->layers) {
    layer.records.resize(size_t{trace->tokens()} * trace->geometry.row_width());
    layer.out.resize(size_t{2} * trace->heads * trace->geometry.latent_width);
    layer.lse.resize(size_t{2} * trace->heads);
  }
  return *trace;
}

TEST_CASE("with bf16 records the recorded answers are what is expected") {
  const Trace trace = Tiny();
  const auto records = RecordsOf(trace, 0, RecordFormat::kBf16);
  CHECK(records.size() == trace.tokens() * 1152);
  const ExpectedAnswers expected = ExpectedOf(trace, 0, RecordFormat::kBf16, records, [] {});
  CHECK(expected.out == trace.layers[0].out);
  CHECK(expected.lse == trace.layers[0].lse);
}

TEST_CASE("with fp8 records the expected answers are near the recorded ones, but not those") {
  const Trace trace = Tiny();
  const auto records = RecordsOf(trace, 1, RecordFormat::kFp8);
  CHECK(records.size() == trace.tokens() * 656);
  int turns = 0;
  const ExpectedAnswers expected =
      ExpectedOf(trace, 1, RecordFormat::kFp8, records, [&] { ++turns; });
  CHECK(turns == 2);
  WorstError error;
  const size_t width = trace.geometry.latent_width;
  for (size_t row = 0; row < expected.lse.size(); ++row) {
    error.Add(CompareRow(std::span(expected.out).subspan(row * width, width), expected.lse[row],
                         std::span(trace.layers[1].out).subspan(row * width, width),
                         trace.layers[1].lse[row]));
  }
  CHECK(error.rows == 32);
  CHECK(error.out_relative_l2 > kOutBound);
  CHECK(error.out_relative_l2 < 0.1);
  CHECK(error.lse < 0.1);
}

}  // namespace
}  // namespace latentd
