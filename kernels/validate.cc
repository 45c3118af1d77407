#include "kernels/validate.h"

#include <cmath>
#include <cstdint>

#include "absl/strings/str_cat.h"

namespace latentd {
namespace {

template <typename... Parts>
absl::Status Invalid(const Parts&... parts) {
  return absl::InvalidArgumentError(absl::StrCat(parts...));
}

absl::Status ValidateSegment(const Problem& problem, uint32_t group_index, uint32_t segment_index) {
  const Segment& segment =
      problem.segments[problem.groups[group_index].first_segment + segment_index];
  if (segment.visible_tokens > kMaxSegmentTokens) {
    return Invalid("group ", group_index, ", segment ", segment_index, ": ", segment.visible_tokens,
                   " visible tokens, expected at most ", kMaxSegmentTokens);
  }
  if (segment.visible_tokens > 0 && segment.page_ids == nullptr) {
    return Invalid("group ", group_index, ", segment ", segment_index, ": ", segment.visible_tokens,
                   " visible tokens but no pages");
  }
  return absl::OkStatus();
}

absl::Status ValidateGroup(const Problem& problem, uint32_t group_index, uint32_t expected_first) {
  const Group& group = problem.groups[group_index];
  if (group.first_token != expected_first) {
    return Invalid("group ", group_index, " starts at token ", group.first_token, ", expected ",
                   expected_first, ": groups cover the tokens in order, without gaps or overlap");
  }
  if (group.tokens == 0) return Invalid("group ", group_index, " has no tokens");
  if (group.tokens > problem.tokens - group.first_token) {
    return Invalid("group ", group_index, " covers tokens ", group.first_token, " to ",
                   uint64_t{group.first_token} + group.tokens, ", expected at most ",
                   problem.tokens);
  }
  const uint64_t end = uint64_t{group.first_segment} + group.segments;
  if (end > problem.segments.size()) {
    return Invalid("group ", group_index, " names segments ", group.first_segment, " to ", end,
                   ", expected at most ", problem.segments.size());
  }
  for (uint32_t s = 0; s < group.segments; ++s) {
    absl::Status status = ValidateSegment(problem, group_index, s);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ValidateGeometry(const Geometry& geometry, RecordFormat format) {
  if (format != RecordFormat::kBf16 && format != RecordFormat::kFp8) {
    return Invalid("unknown record format ", static_cast<int>(format));
  }
  if (geometry.latent_width == 0 || geometry.latent_width > kMaxLatentWidth) {
    return Invalid("latent width ", geometry.latent_width, ", expected 1 to ", kMaxLatentWidth);
  }
  if (format == RecordFormat::kFp8 && geometry.latent_width % kFp8ScaleWidth != 0) {
    return Invalid("latent width ", geometry.latent_width, ", expected a multiple of ",
                   kFp8ScaleWidth, " for fp8 records");
  }
  if (geometry.rope_width > kMaxRopeWidth || geometry.rope_width % 2 != 0) {
    return Invalid("rope width ", geometry.rope_width, ", expected an even number up to ",
                   kMaxRopeWidth);
  }
  return absl::OkStatus();
}

absl::Status ValidateProblem(const Problem& problem, const Geometry& geometry) {
  if (problem.heads == 0 || problem.heads > kMaxHeads) {
    return Invalid(problem.heads, " heads, expected 1 to ", kMaxHeads);
  }
  if (!std::isfinite(problem.scale)) {
    return Invalid("softmax scale ", problem.scale, ", expected a finite number");
  }
  if (problem.out_format != OutFormat::kBf16 && problem.out_format != OutFormat::kFp32) {
    return Invalid("unknown output format ", static_cast<int>(problem.out_format));
  }
  if (problem.tokens > 0 &&
      (problem.rows == nullptr || problem.out == nullptr || problem.lse == nullptr)) {
    const char* missing = problem.rows == nullptr ? "rows" : problem.out == nullptr ? "out" : "lse";
    return Invalid(problem.tokens, " tokens of ", geometry.row_width(), " values but no ", missing,
                   " buffer");
  }
  uint32_t expected_first = 0;
  for (uint32_t g = 0; g < problem.groups.size(); ++g) {
    absl::Status status = ValidateGroup(problem, g, expected_first);
    if (!status.ok()) return status;
    expected_first += problem.groups[g].tokens;
  }
  if (expected_first != problem.tokens) {
    return Invalid("groups cover ", expected_first, " tokens, expected ", problem.tokens);
  }
  return absl::OkStatus();
}

}  // namespace latentd
