#include "client/plan_execution.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace latentd {

absl::StatusOr<PlanSteps> StepsOf(const Plan& plan, std::span<const PlannedPart> parts) {
  const std::span<const PartChoice> choices = plan.Choices();
  if (parts.size() != choices.size()) {
    return absl::InvalidArgumentError(
        absl::StrCat("parts: got ", parts.size(), ", the plan was made for ", choices.size()));
  }
  size_t chunks = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (parts[i].id != choices[i].part_id) {
      return absl::InvalidArgumentError(
          absl::StrCat("part ", i, ": got ", parts[i].id, ", the plan has ", choices[i].part_id));
    }
    chunks += parts[i].chunks.size();
  }
  PlanSteps steps;
  steps.runs.reserve(chunks);  // they do not move any more
  for (size_t i = 0; i < parts.size(); ++i) {
    for (const VisibleChunk& chunk : parts[i].chunks) {
      if (chunk.visible_tokens == 0) continue;
      switch (choices[i].primitive) {
        case Primitive::kRoute:
          steps.route.push_back(chunk);
          break;
        case Primitive::kFetch:
          steps.runs.push_back({0, chunk.visible_tokens});
          steps.fetch.push_back({chunk.id, chunk.position_shift, std::span(&steps.runs.back(), 1)});
          break;
        case Primitive::kLocal:
          steps.recompute.push_back(chunk);
          break;
      }
    }
  }
  return steps;
}

}  // namespace latentd
