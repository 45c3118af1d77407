// What latentd asks of UCX beyond UCX's own defaults. Pure: what is set in the environment (UCX_*)
// is left as it is.
#ifndef LATENTD_TRANSPORT_UCX_CONFIG_H_
#define LATENTD_TRANSPORT_UCX_CONFIG_H_

#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "transport/worker.h"

namespace latentd {

struct UcxSetting {
  std::string name;  // without UCX_
  std::string value;
  bool required = false;  // a UCX that does not know it is refused; else the setting is skipped
};

// `environment` answers whether UCX_<name> is set. Transports that the options name are set even
// so: they are the operator's choice in latentd's own configuration.
std::vector<UcxSetting> UcxSettings(const ContextOptions& options,
                                    const std::function<bool(const std::string&)>& environment);

// The longest header, preamble included, that UCX handles. UCX promises more
// (ucp_worker_attr_t::max_am_header: what one tcp segment takes), but its zero-copy protocol copies
// the header into a buffer of UCX_SEG_SIZE without looking, and runs over its end. So we set that
// size, and keep well below it.
size_t SafeHeaderBytes(const std::function<bool(const std::string&)>& environment);

// Whether the options name one of UCX's shared-memory transports. Automatic never means them:
// endpoints that hear of dead peers exclude them by default.
bool UsesSharedMemory(const ContextOptions& options);

}  // namespace latentd

#endif  // LATENTD_TRANSPORT_UCX_CONFIG_H_
