#include "tools/expected.h"

#include <cstring>

#include "kernels/quantize.h"
#include "kernels/reference/reference.h"

namespace latentd {

std::vector<std::byte> RecordsOf(const Trace& trace, uint32_t layer, RecordFormat format) {
  const std::span<const std::byte> bf16 = std::as_bytes(std::span(trace.layers[layer].records));
  if (format == RecordFormat::kBf16) return {bf16.begin(), bf16.end()};
  std::vector<std::byte> records(trace.tokens() * RecordBytes(trace.geometry, format));
  QuantizeRecords(trace.geometry, bf16.data(), trace.tokens(), records.data());
  return records;
}

ExpectedAnswers ExpectedOf(const Trace& trace, uint32_t layer, RecordFormat format,
                           std::span<const std::byte> records, const std::function<void()>& turn) {
  const TraceLayer& recorded = trace.layers[layer];
  if (format == RecordFormat::kBf16) return {recorded.out, recorded.lse};

  // One layer, its pages in order.
  const uint64_t page_bytes = kPageTokens * RecordBytes(trace.geometry, format);
  std::vector<std::byte> arena((trace.tokens() + kPageTokens - 1) / kPageTokens * page_bytes);
  std::memcpy(arena.data(), records.data(), records.size());
  std::vector<uint32_t> pages(arena.size() / page_bytes);
  for (uint32_t p = 0; p < pages.size(); ++p) pages[p] = p;

  ExpectedAnswers expected;
  expected.out.resize(recorded.out.size());
  expected.lse.resize(recorded.lse.size());
  for (uint32_t step = 0; step < trace.steps; ++step) {
    const Segment segment = {.page_ids = pages.data(), .visible_tokens = trace.visible(step)};
    const Group group = {.tokens = 1, .segments = 1};
    const size_t row = size_t{step} * trace.heads;
    ReferenceAttend(trace.geometry, format, {arena.data(), page_bytes, page_bytes},
                    {.tokens = 1,
                     .heads = trace.heads,
                     .scale = trace.scale,
                     .groups = {&group, 1},
                     .segments = {&segment, 1},
                     .rows = recorded.queries.data() + row * trace.geometry.row_width(),
                     .out_format = OutFormat::kFp32,
                     .out = expected.out.data() + row * trace.geometry.latent_width,
                     .lse = expected.lse.data() + row});
    turn();
  }
  return expected;
}

}  // namespace latentd
