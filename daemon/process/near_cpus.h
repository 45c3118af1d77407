// The CPUs that are nearest to a PCI device, as the kernel tells.
//
// Pure but for reading files; any thread.
#ifndef LATENTD_DAEMON_PROCESS_NEAR_CPUS_H_
#define LATENTD_DAEMON_PROCESS_NEAR_CPUS_H_

#include <set>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace latentd {

// CPUs of a list as the kernel writes them: "0-3,8,10-11". INVALID_ARGUMENT for anything else;
// empty for an empty list.
absl::StatusOr<std::set<int>> ParseCpuList(std::string_view list);

// Those of the NUMA node that the device with this bus id ("0000:1b:00.0", in either case) is
// attached to; on a machine of one node, all. NOT_FOUND: the kernel does not know, as in some virtual
// machines.
absl::StatusOr<std::set<int>> CpusNear(std::string_view pci_bus_id,
                                       const std::string& devices = "/sys/bus/pci/devices");

}  // namespace latentd

#endif  // LATENTD_DAEMON_PROCESS_NEAR_CPUS_H_
