// One program may hold a client and a daemon: whole-system tests do. Two types of one name would be
// undefined behaviour there that no compiler sees in separate files, so both meet in this one.
#include <catch2/catch.hpp>
#include <type_traits>

#include "client/tls_files.h"
#include "daemon/services/control_server.h"
#include "daemon/services/tls_files.h"

namespace latentd {
namespace {

TEST_CASE("a client's options and a daemon's can be used in one file") {
  STATIC_REQUIRE_FALSE(std::is_same_v<TlsFiles, TlsConfig>);
}

}  // namespace
}  // namespace latentd
