// `Trace` is what a model asked and what its own attention answered: queries, records and answers
// of some decode steps after a context, recorded in a .safetensors file. See README.md for the
// file's contents.
//
// Immutable once read; const calls from any thread.
#ifndef LATENTD_TOOLS_TRACE_H_
#define LATENTD_TOOLS_TRACE_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "kernels/mla.h"

namespace latentd {

struct TraceLayer {
  std::vector<Bf16> records;  // [tokens][row_width]
  std::vector<Bf16> queries;  // [steps][heads][row_width]
  std::vector<float> out;     // [steps][heads][latent_width]
  std::vector<float> lse;     // [steps][heads], natural logarithm
};

struct Trace {
  std::string name;    // the file's, without folder and ending
  std::string source;  // which model, as the file tells it
  Geometry geometry;
  uint32_t heads = 0;
  float scale = 0;
  uint32_t context = 0;  // tokens before the first step
  uint32_t steps = 0;
  std::vector<TraceLayer> layers;

  uint32_t tokens() const { return context + steps; }
  // What the query of a step sees: the context and everything up to its own token.
  uint32_t visible(uint32_t step) const { return context + step + 1; }
};

// Errors name the file and what is wrong in it. UNIMPLEMENTED for a trace of sparse selection.
absl::StatusOr<Trace> ReadTrace(const std::string& path);

}  // namespace latentd

#endif  // LATENTD_TOOLS_TRACE_H_
