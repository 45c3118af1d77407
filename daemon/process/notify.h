// What the daemon tells the service manager (sd_notify). Without one (no NOTIFY_SOCKET) every call
// does nothing.
//
// Any thread.
#ifndef LATENTD_DAEMON_PROCESS_NOTIFY_H_
#define LATENTD_DAEMON_PROCESS_NOTIFY_H_

#include <optional>
#include <string>

#include "absl/time/time.h"

namespace latentd {

// The daemon serves. `status` is the line that `systemctl status` shows, here and below.
void NotifyReady(const std::string& status);
void NotifyStatus(const std::string& status);
// A shutdown has begun and may take up to `limit`: the manager is not to kill the daemon before.
void NotifyStopping(const std::string& status, absl::Duration limit);
void NotifyWatchdog();

// How long the manager waits for a NotifyWatchdog before it takes the daemon for hung; nothing if
// it does not watch.
std::optional<absl::Duration> WatchdogTimeout();

}  // namespace latentd

#endif  // LATENTD_DAEMON_PROCESS_NOTIFY_H_
