// The life of the daemon's process, from a configuration to an exit code.
#ifndef LATENTD_DAEMON_PROCESS_RUN_H_
#define LATENTD_DAEMON_PROCESS_RUN_H_

#include "config/config.h"

namespace latentd {

inline constexpr int kExitOk = 0;             // stopped as told
inline constexpr int kExitFailure = 1;        // could not start, or was told twice to stop
inline constexpr int kExitConfiguration = 2;  // command line or configuration

// Starts logging and the daemon, serves until SIGTERM or SIGINT, drains, and returns the exit code.
// Call it from main's thread, after BlockSignals.
int RunDaemon(const Config& config);

}  // namespace latentd

#endif  // LATENTD_DAEMON_PROCESS_RUN_H_
