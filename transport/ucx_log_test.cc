#include "transport/ucx_log.h"

#include <sys/wait.h>
#include <ucs/config/global_opts.h>
#include <ucs/debug/log_def.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cstdlib>
#include <functional>
#include <string>

namespace latentd {
namespace {

// What a process of its own writes while it runs `body`: the setting is for a whole process.
std::string OutputOf(const std::function<void()>& body) {
  int ends[2];
  REQUIRE(pipe(ends) == 0);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    dup2(ends[1], STDOUT_FILENO);
    dup2(ends[1], STDERR_FILENO);
    body();
    ucs_log_flush();
    _exit(0);
  }
  close(ends[1]);
  std::string output;
  char buffer[512];
  for (ssize_t n; (n = read(ends[0], buffer, sizeof(buffer))) > 0;) {
    output.append(buffer, static_cast<size_t>(n));
  }
  close(ends[0]);
  waitpid(child, nullptr, 0);
  return output;
}

void Says(const char* file, ucs_log_level_t level, const char* text) {
  ucs_log_dispatch(file, 1, "function", level, &ucs_global_opts.log_component, "%s", text);
}

bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_CASE("connections that fail are not written about, all else is") {
  const std::string output = OutputOf([] {
    unsetenv("UCX_LOG_LEVEL");
    QuietUcxConnections();
    QuietUcxConnections();
    Says("src/ucs/sys/sock.c", UCS_LOG_LEVEL_ERROR, "refused");
    Says("tcp_ep.c", UCS_LOG_LEVEL_ERROR, "advice");
    Says("src/ucs/sys/sock.c", UCS_LOG_LEVEL_WARN, "warning");
    Says("src/ucp/core/ucp_context.c", UCS_LOG_LEVEL_ERROR, "other");
  });
  INFO(output);
  CHECK_FALSE(Contains(output, "refused"));
  CHECK_FALSE(Contains(output, "advice"));
  CHECK(Contains(output, "warning"));
  CHECK(Contains(output, "other"));
}

TEST_CASE("whoever sets UCX_LOG_LEVEL reads everything") {
  const std::string output = OutputOf([] {
    setenv("UCX_LOG_LEVEL", "error", 1);
    QuietUcxConnections();
    Says("src/ucs/sys/sock.c", UCS_LOG_LEVEL_ERROR, "refused");
  });
  CHECK(Contains(output, "refused"));
}

}  // namespace
}  // namespace latentd
