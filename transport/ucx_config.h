// What latentd asks of UCX beyond UCX's own defaults. Pure: what is set in the environment (UCX_*)
// is left as it is, except that an endpoint is never offered what only the other side would use.
#ifndef LATENTD_TRANSPORT_UCX_CONFIG_H_
#define LATENTD_TRANSPORT_UCX_CONFIG_H_

#include <cstddef>
#include <functional>
#include <string>
#include <vector>

#include "transport/worker.h"

namespace latentd {

struct UcxSetting {
  std::string name;  // without UCX_
  std::string value;
  bool required = false;  // a UCX that does not know it is refused; else the setting is skipped
};

// The value of UCX_<name>, or null where it is not set.
using UcxEnvironment = std::function<const char*(const std::string& name)>;

// UCX's own list of transports: those that the options name, else those of the environment, else
// all but shared memory.
//
// "All" leaves shared memory out because UCX would listen there without ever using it for endpoints
// that hear of dead peers. A peer that has it on calls there, UCX finds no way to answer, and
// crashes (1.22.0: ucp_ep_set_lanes_failed_progress). So what is not used must not be offered.
std::vector<std::string> ChosenTransports(const ContextOptions& options,
                                          const UcxEnvironment& environment);

std::vector<UcxSetting> UcxSettings(const ContextOptions& options,
                                    const UcxEnvironment& environment);

// The longest header, preamble included, that UCX handles. UCX promises more
// (ucp_worker_attr_t::max_am_header: what one tcp segment takes), but its zero-copy protocol copies
// the header into a buffer of UCX_SEG_SIZE without looking, and runs over its end. So we set that
// size, and keep well below it.
size_t SafeHeaderBytes(const UcxEnvironment& environment);

// Whether one of UCX's shared-memory transports is among the chosen ones.
bool UsesSharedMemory(const std::vector<std::string>& transports);

}  // namespace latentd

#endif  // LATENTD_TRANSPORT_UCX_CONFIG_H_
