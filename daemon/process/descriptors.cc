#include "daemon/process/descriptors.h"

#include <sys/resource.h>

#include <cerrno>
#include <cstring>

#include "daemon/process/log.h"

namespace latentd {
namespace {

// Listeners, epoll sets, devices, peers, scrapes, operators.
constexpr uint64_t kReserve = 256;

}  // namespace

uint64_t DescriptorsWanted(const Config& config) {
  return uint64_t{config.data.limits.sessions} * (1 + config.data.lanes.size()) + kReserve;
}

void RaiseDescriptorLimit(const Config& config) {
  rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  const rlim_t before = limit.rlim_cur;
  limit.rlim_cur = limit.rlim_max;
  if (before != limit.rlim_max && setrlimit(RLIMIT_NOFILE, &limit) != 0) {
    LogWarn("the limit of descriptors cannot be raised",
            {{"from", before}, {"to", limit.rlim_max}, {"reason", std::strerror(errno)}});
    limit.rlim_cur = before;
  }
  LogInfo("descriptors", {{"limit", limit.rlim_cur}, {"before", before}});
  if (const uint64_t wanted = DescriptorsWanted(config); limit.rlim_cur < wanted) {
    LogWarn(
        "fewer descriptors than sessions may need: raise the hard limit (ulimit -Hn, LimitNOFILE) "
        "or lower data.limits.sessions",
        {{"limit", limit.rlim_cur},
         {"wanted", wanted},
         {"data.limits.sessions", config.data.limits.sessions}});
  }
}

}  // namespace latentd
