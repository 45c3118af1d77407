// `ControlPlane` is the client's side of gRPC: it keeps a session on each node that the data path
// asks for, renews them, follows the routing table, and tells what changes through a Handover. One
// background thread of its own.
//
// A node's session:
//     none    -- EnsureSession, Open answered -----------> open     (SessionOpened)
//     none    -- Open failed ----------------------------> none     (SessionFailed)
//     open    -- Renew answered in time -----------------> open
//     open    -- EnsureSession(suspect), Renew answered -> open     (SessionOpened, the same token)
//     open    -- Renew: not known, or ttl over ----------> none     (SessionLost)
//     open    -- the table names another generation -----> none     (SessionLost)
//     open    -- EnsureSession(refused) -----------------> none, then as above
// At most one call is out for a node at any time.
#ifndef LATENTD_CLIENT_CONTROL_H_
#define LATENTD_CLIENT_CONTROL_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/handover.h"
#include "client/session_info.h"
#include "client/tls_files.h"

namespace latentd {

struct ControlOptions {
  std::vector<std::string> endpoints;  // to begin with; any daemon will do
  TlsFiles tls;
  std::string client_name;
  std::string peer_node;                           // the daemon that asks; empty for a frontend
  std::string worker_address;                      // the client's own
  LayoutHash expected_layout{};                    // 0: whatever the first daemon has
  std::optional<Layout> layout;                    // the same in full, once it is known
  absl::Duration call_timeout = absl::Seconds(2);  // of one gRPC call
};

// Why a session is asked for.
enum class SessionDoubt : uint8_t {
  kNone,     // there is none
  kSuspect,  // its connection broke: it may live on
  kRefused,  // the daemon does not know it
};

class ControlPlane {
 public:
  // Opens the first session, trying the endpoints in turn until `timeout` is over, then starts the
  // thread. The event of that session and its table is the first in `handover`. The error names
  // every endpoint and its reason.
  static absl::StatusOr<std::unique_ptr<ControlPlane>> Start(ControlOptions options,
                                                             absl::Duration timeout,
                                                             Handover* handover);
  // Closes every session, waiting a moment for the daemons' word.
  virtual ~ControlPlane() = default;

  // As it was when it was opened: says the layout.
  virtual const SessionInfo& first_session() const = 0;

  // Any thread. Answered by SessionOpened or SessionFailed.
  virtual void EnsureSession(NodeId node, std::string control_address, SessionDoubt doubt,
                             TokenBits doubted) = 0;
  // Any thread. Asks `node`, then the others, until the table is at least `epoch`; TableChanged
  // tells.
  virtual void RefreshTable(NodeId node, Epoch epoch) = 0;
  // Any thread. `node` does not hold what the table gives it: asks for the table that it goes by.
  // HolderAsked tells, whatever came of it.
  virtual void AskHolder(NodeId node) = 0;
  // Any thread. `node` does not answer: tables are followed elsewhere, if they were there.
  virtual void SuspectHolder(NodeId node) = 0;
};

}  // namespace latentd

#endif  // LATENTD_CLIENT_CONTROL_H_
