// The version of this source tree, as `latentd --version`, Admin.Status and the metrics tell it.
#ifndef LATENTD_DAEMON_PROCESS_VERSION_H_
#define LATENTD_DAEMON_PROCESS_VERSION_H_

namespace latentd {

inline constexpr char kVersion[] = "0.1.0";

}  // namespace latentd

#endif  // LATENTD_DAEMON_PROCESS_VERSION_H_
