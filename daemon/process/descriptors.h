// How many descriptors this process may have, against what its sessions need. gRPC of this version
// stops listening for good when accept() finds none left, so there had better be enough.
#ifndef LATENTD_DAEMON_PROCESS_DESCRIPTORS_H_
#define LATENTD_DAEMON_PROCESS_DESCRIPTORS_H_

#include <cstdint>

#include "config/config.h"

namespace latentd {

// What as many sessions as the configuration admits need at most: each a connection to the control
// plane and one to every lane, besides what the daemon itself has open. Pure.
uint64_t DescriptorsWanted(const Config& config);

// Raises the soft limit to the hard one, and warns if that is less than wanted. Once, at the start.
void RaiseDescriptorLimit(const Config& config);

}  // namespace latentd

#endif  // LATENTD_DAEMON_PROCESS_DESCRIPTORS_H_
