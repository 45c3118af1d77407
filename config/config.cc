#include "config/config.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "config/host_port.h"

namespace latentd {

std::string ToString(const Device& device) {
  return device.kind == DeviceKind::kCpu ? "cpu" : absl::StrCat("cuda:", device.index);
}

double SoftmaxScaleRule(const ModelConfig& model) {
  const RopeParameters& rope = model.rope;
  const double m =
      rope.yarn_factor > 1 ? 0.1 * rope.mscale_all_dim * std::log(rope.yarn_factor) + 1 : 1;
  return m * m / std::sqrt(static_cast<double>(model.nope_width) + model.rope_width);
}

Layout LayoutOf(const Config& config) {
  Layout layout;
  layout.model = config.model.name;
  layout.layers = config.model.layers;
  layout.latent_width = config.model.latent_width;
  layout.rope_width = config.model.rope_width;
  layout.record_format = config.record;
  layout.rope = config.model.rope;
  return layout;
}

std::string AdvertisedControlAddress(const Config& config) {
  const absl::StatusOr<HostPort> listen = ParseHostPort(config.control.listen);
  return ToString(HostPort{config.node.advertise, listen.ok() ? listen->port : uint16_t{0}});
}

uint64_t TotalCacheBytes(const Config& config) {
  uint64_t total = 0;
  for (const LaneConfig& lane : config.data.lanes) total += lane.cache_bytes;
  return total;
}

}  // namespace latentd
