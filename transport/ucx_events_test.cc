#include "transport/ucx_events.h"

#include <sys/socket.h>
#include <ucs/sys/event_set.h>
#include <unistd.h>

#include <vector>

#include "catch2/catch.hpp"

namespace latentd {
namespace {

TEST_CASE("a socket that can be read and written is written first") {
  int sockets[2];
  REQUIRE(socketpair(AF_UNIX, SOCK_STREAM, 0, sockets) == 0);
  REQUIRE(write(sockets[1], "x", 1) == 1);
  ucs_sys_event_set_t* set = nullptr;
  REQUIRE(ucs_event_set_create(&set) == UCS_OK);
  REQUIRE(ucs_event_set_add(set, sockets[0], UCS_EVENT_SET_EVREAD | UCS_EVENT_SET_EVWRITE,
                            &sockets[0]) == UCS_OK);
  std::vector<int> events;
  unsigned count = 4;
  REQUIRE(ucs_event_set_wait(
              set, &count, 0,
              [](void* data, ucs_event_set_types_t types, void* arg) {
                CHECK(*static_cast<int*>(data) >= 0);
                static_cast<std::vector<int>*>(arg)->push_back(types);
              },
              &events) == UCS_OK);
  CHECK(count == 1);
  CHECK(events == std::vector<int>{UCS_EVENT_SET_EVWRITE, UCS_EVENT_SET_EVREAD});
  ucs_event_set_cleanup(set);
  close(sockets[0]);
  close(sockets[1]);
}

}  // namespace
}  // namespace latentd
