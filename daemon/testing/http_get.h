// An HTTP GET over a plain socket, for tests: the whole answer, headers included; empty if there
// was none.
#ifndef LATENTD_DAEMON_TESTING_HTTP_GET_H_
#define LATENTD_DAEMON_TESTING_HTTP_GET_H_

#include <string>

namespace latentd {

// `address` is "127.0.0.1:port".
std::string HttpGet(const std::string& address, const std::string& path);

}  // namespace latentd

#endif  // LATENTD_DAEMON_TESTING_HTTP_GET_H_
