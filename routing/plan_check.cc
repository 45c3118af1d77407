#include "routing/plan_check.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "kernels/rope.h"
#include "routing/layout_rope.h"

namespace latentd {
namespace {

absl::Status CheckRange(const char* what, uint64_t value, uint64_t least, uint64_t most) {
  if (value >= least && value <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("plan: ", what, " ", value, ", allowed ", least, "..", most));
}

absl::Status CheckLayout(const Layout* layout) {
  if (layout == nullptr) return absl::InvalidArgumentError("plan: no layout");
  if (layout->layers == 0 || layout->latent_width == 0 || layout->page_tokens == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("plan: a layout of ", layout->layers, " layers, latent width ",
                     layout->latent_width, " and pages of ", layout->page_tokens, " tokens"));
  }
  // The first in double: page_bytes may overflow.
  if (static_cast<double>(layout->layers) * layout->page_tokens *
          static_cast<double>(layout->record_bytes()) >
      static_cast<double>(kMaxPlanPageBytes)) {
    return absl::InvalidArgumentError(
        absl::StrCat("plan: pages of more than ", kMaxPlanPageBytes, " bytes"));
  }
  return absl::OkStatus();
}

absl::Status CheckPart(const PlanPart& part, const PlanRequest& request, size_t holders) {
  const auto name = [&part] { return absl::StrCat("plan: part ", part.id); };
  if (part.tokens == 0 || part.tokens > kMaxPlanTokens) {
    return absl::InvalidArgumentError(
        absl::StrCat(name(), ": tokens ", part.tokens, ", allowed 1..", kMaxPlanTokens));
  }
  if (part.chunks == 0 || part.chunks > part.tokens || part.ranges == 0) {
    return absl::InvalidArgumentError(absl::StrCat(name(), ": ", part.tokens, " tokens in ",
                                                   part.chunks, " chunks and ", part.ranges,
                                                   " ranges"));
  }
  if (part.replica_count > kMaxPartReplicas) {
    return absl::InvalidArgumentError(absl::StrCat(name(), ": ", int{part.replica_count},
                                                   " replicas, allowed ", kMaxPartReplicas));
  }
  for (size_t i = 0; i < part.replica_count; ++i) {
    if (part.replicas[i] >= holders) {
      return absl::InvalidArgumentError(
          absl::StrCat(name(), ": replica at holder ", int{part.replicas[i]}, " of ", holders));
    }
  }
  if (part.position_shift == 0) return absl::OkStatus();
  const absl::Status shift = CheckShift(RopeOf(*request.layout), part.position_shift);
  if (shift.ok()) return shift;
  return absl::Status(shift.code(), absl::StrCat(name(), ": ", shift.message()));
}

}  // namespace

absl::Status CheckPlanRequest(const PlanRequest& request, std::span<const PlanHolder> holders) {
  if (absl::Status status = CheckLayout(request.layout); !status.ok()) return status;
  const auto check = [](const char* what, uint64_t value, uint64_t least, uint64_t most,
                        absl::Status& status) {
    if (status.ok()) status = CheckRange(what, value, least, most);
  };
  absl::Status status;
  check("rows", request.rows, 1, kMaxPlanRows, status);
  check("steps", request.steps, 1, kMaxPlanSteps, status);
  check("parts", request.parts.size(), 1, kMaxPlanParts, status);
  check("holders", holders.size(), 0, kMaxPlanHolders, status);
  check("resident tokens", request.resident_tokens, 0, kMaxPlanTokens, status);
  if (!status.ok()) return status;
  if (!(request.deadline_us >= 0) || !std::isfinite(request.deadline_us)) {
    return absl::InvalidArgumentError(
        absl::StrCat("plan: deadline of ", request.deadline_us, " us"));
  }
  for (const PlanHolder& holder : holders) {
    if (holder.node == nullptr)
      return absl::InvalidArgumentError(absl::StrCat("plan: holder ", holder.id, " has no node"));
  }
  for (const PlanPart& part : request.parts) {
    status = CheckPart(part, request, holders.size());
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

}  // namespace latentd
