#include "daemon/process/notify.h"

#include <systemd/sd-daemon.h>

#include <cstdint>

#include "absl/strings/str_cat.h"

namespace latentd {

void NotifyReady(const std::string& status) {
  sd_notify(0, absl::StrCat("READY=1\nSTATUS=", status).c_str());
}

void NotifyStatus(const std::string& status) {
  sd_notify(0, absl::StrCat("STATUS=", status).c_str());
}

void NotifyStopping(const std::string& status, absl::Duration limit) {
  // Some seconds more than the limit: what is cut off at the limit still has to be put away.
  const int64_t usec = absl::ToInt64Microseconds(limit + absl::Seconds(5));
  sd_notify(0, absl::StrCat("STOPPING=1\nEXTEND_TIMEOUT_USEC=", usec, "\nSTATUS=", status).c_str());
}

void NotifyWatchdog() { sd_notify(0, "WATCHDOG=1"); }

std::optional<absl::Duration> WatchdogTimeout() {
  uint64_t usec = 0;
  if (sd_watchdog_enabled(0, &usec) <= 0 || usec == 0) return std::nullopt;
  return absl::Microseconds(static_cast<int64_t>(usec));
}

}  // namespace latentd
