#include "kernels/reference/reference.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/bf16.h"
#include "kernels/records.h"

namespace latentd {
namespace {

constexpr double kNegativeInfinity = -std::numeric_limits<double>::infinity();

// What one row attends: its visible records, decoded, in order.
using Records = std::vector<std::vector<float>>;

Records VisibleRecords(const Geometry& geometry, RecordFormat format, const CacheView& cache,
                       const Problem& problem, const Group& group, uint32_t token_in_group) {
  Records records;
  for (uint32_t s = 0; s < group.segments; ++s) {
    const Segment& segment = problem.segments[group.first_segment + s];
    const uint32_t visible = VisibleTokens(segment, group, token_in_group);
    for (uint32_t t = 0; t < visible; ++t) {
      std::vector<float>& record = records.emplace_back(geometry.row_width());
      DecodeRecord(geometry, format,
                   RecordAddress(geometry, format, cache, segment.page_ids, problem.layer, t),
                   record);
    }
  }
  return records;
}

// The partial of one row over `records`: out [latent_width], returns lse.
double AttendRow(const Geometry& geometry, double scale, const Bf16* row, const Records& records,
                 double* out) {
  std::fill(out, out + geometry.latent_width, 0.0);
  if (records.empty()) return kNegativeInfinity;

  std::vector<double> logits;
  for (const std::vector<float>& record : records) {
    double dot = 0;
    for (uint32_t k = 0; k < geometry.row_width(); ++k) {
      dot += double{Bf16ToFloat(row[k])} * double{record[k]};
    }
    logits.push_back(scale * dot);
  }
  const double largest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (double logit : logits) sum += std::exp(logit - largest);
  const double lse = largest + std::log(sum);
  for (size_t j = 0; j < records.size(); ++j) {
    const double weight = std::exp(logits[j] - lse);
    for (uint32_t d = 0; d < geometry.latent_width; ++d) out[d] += weight * records[j][d];
  }
  return lse;
}

}  // namespace

ReferencePartials ReferenceAttendFp64(const Geometry& geometry, RecordFormat format,
                                      const CacheView& cache, const Problem& problem) {
  const uint64_t rows = uint64_t{problem.tokens} * problem.heads;
  ReferencePartials partials;
  partials.out.resize(rows * geometry.latent_width);
  partials.lse.resize(rows);
  for (const Group& group : problem.groups) {
    for (uint32_t i = 0; i < group.tokens; ++i) {
      const Records records = VisibleRecords(geometry, format, cache, problem, group, i);
      for (uint32_t head = 0; head < problem.heads; ++head) {
        const uint64_t row = uint64_t{group.first_token + i} * problem.heads + head;
        partials.lse[row] =
            AttendRow(geometry, problem.scale, problem.rows + row * geometry.row_width(), records,
                      partials.out.data() + row * geometry.latent_width);
      }
    }
  }
  return partials;
}

void ReferenceAttend(const Geometry& geometry, RecordFormat format, const CacheView& cache,
                     const Problem& problem) {
  const ReferencePartials partials = ReferenceAttendFp64(geometry, format, cache, problem);
  for (size_t i = 0; i < partials.out.size(); ++i) {
    const float value = static_cast<float>(partials.out[i]);
    if (problem.out_format == OutFormat::kBf16) {
      static_cast<Bf16*>(problem.out)[i] = FloatToBf16(value);
    } else {
      static_cast<float*>(problem.out)[i] = value;
    }
  }
  std::transform(partials.lse.begin(), partials.lse.end(), problem.lse,
                 [](double lse) { return static_cast<float>(lse); });
}

}  // namespace latentd
