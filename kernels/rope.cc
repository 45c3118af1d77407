#include "kernels/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <utility>

#include "absl/strings/str_cat.h"

namespace latentd {
namespace {

absl::Status CheckSpec(const RopeSpec& spec) {
  const auto invalid = [](const char* name, double value, const char* expected) {
    return absl::InvalidArgumentError(
        absl::StrCat("rope ", name, ": got ", value, ", expected ", expected));
  };
  if (spec.width == 0) return absl::FailedPreconditionError("the layout has no rope values");
  if (spec.width % 2 != 0) return invalid("width", spec.width, "an even number");
  if (!(std::isfinite(spec.theta) && spec.theta >= 1)) {
    return invalid("theta", spec.theta, "at least 1");
  }
  if (!(std::isfinite(spec.yarn_factor) && spec.yarn_factor >= 1)) {
    return invalid("yarn_factor", spec.yarn_factor, "at least 1");
  }
  if (spec.yarn_factor == 1) return absl::OkStatus();
  if (!(spec.theta > 1)) return invalid("theta", spec.theta, "more than 1 with YaRN");
  if (spec.original_context == 0) return invalid("original_context", 0, "at least 1 with YaRN");
  if (!(std::isfinite(spec.yarn_beta_fast) && spec.yarn_beta_fast > 0)) {
    return invalid("yarn_beta_fast", spec.yarn_beta_fast, "more than 0");
  }
  if (!(std::isfinite(spec.yarn_beta_slow) && spec.yarn_beta_slow > 0)) {
    return invalid("yarn_beta_slow", spec.yarn_beta_slow, "more than 0");
  }
  return absl::OkStatus();
}

// The pair, not a whole number, that turns `turns` times within the original context.
double PairOfTurns(const RopeSpec& spec, double turns) {
  return spec.width * std::log(spec.original_context / (turns * 2 * std::numbers::pi)) /
         (2 * std::log(spec.theta));
}

// From 0, for pairs that turn so often that YaRN leaves them, to 1 for those that it slows down
// wholly. Bounds and the widening of an empty ramp are DeepSeek's.
struct YarnRamp {
  explicit YarnRamp(const RopeSpec& spec)
      : low(std::max(std::floor(PairOfTurns(spec, spec.yarn_beta_fast)), 0.0)),
        high(std::min(std::ceil(PairOfTurns(spec, spec.yarn_beta_slow)), spec.width - 1.0)) {
    if (low == high) high += 0.001;
  }
  float at(uint32_t pair) const {
    return std::clamp(
        (static_cast<float>(pair) - static_cast<float>(low)) / static_cast<float>(high - low), 0.0f,
        1.0f);
  }

  double low;
  double high;
};

std::vector<float> Frequencies(const RopeSpec& spec) {
  std::vector<float> frequencies(spec.width / 2);
  for (uint32_t i = 0; i < frequencies.size(); ++i) {
    const float exponent = static_cast<float>(2 * i) / static_cast<float>(spec.width);
    // Rounded once, as a good powf does.
    const auto power = static_cast<float>(std::pow(spec.theta, static_cast<double>(exponent)));
    frequencies[i] = 1.0f / power;
    if (spec.yarn_factor == 1) continue;
    const float slowed = 1.0f / (static_cast<float>(spec.yarn_factor) * power);
    const float kept = 1.0f - YarnRamp(spec).at(i);
    frequencies[i] = slowed * (1.0f - kept) + frequencies[i] * kept;
  }
  return frequencies;
}

absl::Status CheckWithin(int64_t positions, int64_t shift) {
  if (-positions < shift && shift < positions) return absl::OkStatus();
  return absl::OutOfRangeError(
      absl::StrCat("position shift ", shift, ": the model has ", positions, " positions"));
}

}  // namespace

int64_t PositionsOf(const RopeSpec& spec) {
  if (spec.yarn_factor == 1) return kMaxPositions;
  const double stretched = spec.original_context * spec.yarn_factor;
  return stretched < static_cast<double>(kMaxPositions) ? static_cast<int64_t>(stretched)
                                                        : kMaxPositions;
}

absl::Status CheckShift(const RopeSpec& spec, int64_t shift) {
  if (absl::Status s = CheckSpec(spec); !s.ok()) return s;
  return CheckWithin(PositionsOf(spec), shift);
}

absl::StatusOr<Rope> Rope::Make(const RopeSpec& spec) {
  if (absl::Status s = CheckSpec(spec); !s.ok()) return s;
  return Rope(spec, Frequencies(spec), PositionsOf(spec));
}

absl::StatusOr<Rotation> Rope::RotationBy(int64_t shift) const {
  if (absl::Status s = CheckWithin(positions_, shift); !s.ok()) return s;
  if (shift == 0) return Rotation();
  std::vector<float> cosines(frequencies_.size());
  std::vector<float> sines(frequencies_.size());
  for (size_t i = 0; i < frequencies_.size(); ++i) {
    const double angle = static_cast<double>(shift) * static_cast<double>(frequencies_[i]);
    cosines[i] = static_cast<float>(std::cos(angle));
    sines[i] = static_cast<float>(std::sin(angle));
  }
  return Rotation(pairs_, std::move(cosines), std::move(sines));
}

}  // namespace latentd
