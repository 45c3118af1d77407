// What the answers to a trace's queries must be, given the format in which its records are held.
// Pure; any thread.
#ifndef LATENTD_TOOLS_EXPECTED_H_
#define LATENTD_TOOLS_EXPECTED_H_

#include <cstddef>
#include <functional>
#include <span>
#include <vector>

#include "kernels/mla.h"
#include "tools/trace.h"

namespace latentd {

// A layer's records in the given format, [tokens][record].
std::vector<std::byte> RecordsOf(const Trace& trace, uint32_t layer, RecordFormat format);

struct ExpectedAnswers {
  std::vector<float> out;  // [steps][heads][latent_width]
  std::vector<float> lse;  // [steps][heads]
};

// bf16: what the trace recorded. fp8: the fp64 reference over the quantised records, which takes
// seconds for a large trace; `turn` is called between steps.
ExpectedAnswers ExpectedOf(const Trace& trace, uint32_t layer, RecordFormat format,
                           std::span<const std::byte> records, const std::function<void()>& turn);

}  // namespace latentd

#endif  // LATENTD_TOOLS_EXPECTED_H_
