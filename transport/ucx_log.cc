#include "transport/ucx_log.h"

#include <ucs/debug/log_def.h>

#include <cstdarg>
#include <cstdlib>
#include <mutex>
#include <string_view>

namespace latentd {
namespace {

// Where UCX reports a tcp connection that fails, and advises to raise limits of the kernel.
bool IsAboutConnections(std::string_view file) {
  const std::string_view name = file.substr(file.rfind('/') + 1);
  return name == "sock.c" || name == "tcp_ep.c";
}

ucs_log_func_rc_t DropConnectionErrors(const char* file, unsigned, const char*,
                                       ucs_log_level_t level, const ucs_log_component_config_t*,
                                       const char*, va_list) {
  const bool drop = level == UCS_LOG_LEVEL_ERROR && file != nullptr && IsAboutConnections(file);
  return drop ? UCS_LOG_FUNC_RC_STOP : UCS_LOG_FUNC_RC_CONTINUE;
}

}  // namespace

void QuietUcxConnections() {
  static std::once_flag once;
  std::call_once(once, [] {
    if (std::getenv("UCX_LOG_LEVEL") == nullptr) ucs_log_push_handler(DropConnectionErrors);
  });
}

}  // namespace latentd
