// What a daemon is made of before it serves: who its nodes are, how chunks get to other nodes, and
// the lanes, which use the other two.
//
// Values that own; made and handed on by one thread.
#ifndef LATENTD_DAEMON_PROCESS_PARTS_H_
#define LATENTD_DAEMON_PROCESS_PARTS_H_

#include <memory>
#include <vector>

#include "absl/status/statusor.h"
#include "client/tls_files.h"
#include "config/config.h"
#include "daemon/lane/lane.h"
#include "daemon/membership/membership.h"
#include "daemon/replication/replication.h"

namespace latentd {

// Destroyed last to first.
struct ServerParts {
  std::unique_ptr<Membership> membership;
  std::unique_ptr<Replication> replication;  // null: every chunk has one holder, for ever
  std::vector<std::unique_ptr<Lane>> lanes;  // made and not started
};

// What this node shows its peers, as their client.
TlsFiles TlsOf(const Config& config);

// The membership is the configuration's unless one is given. Errors name the key of the
// configuration that cannot be.
absl::StatusOr<ServerParts> MakeParts(const Config& config, Generation generation,
                                      std::unique_ptr<Membership> membership = nullptr);

}  // namespace latentd

#endif  // LATENTD_DAEMON_PROCESS_PARTS_H_
