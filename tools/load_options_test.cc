#include "tools/load_options.h"

#include <catch2/catch.hpp>

namespace latentd {
namespace {

using Catch::Matchers::Contains;

// A daemon's limits as they are by default.
constexpr SessionLimits kLimits = {.inflight_requests = 64,
                                   .inflight_bytes = uint64_t{256} << 20,
                                   .chunks_per_request = 4096,
                                   .rows_per_request = 16384,
                                   .payload_bytes_per_request = uint64_t{64} << 20};
const Layout kLayout = {.model = "test", .layers = 2};

std::string Fault(const AttendLoadOptions& options, const SessionLimits& limits = kLimits) {
  return std::string(CheckAttendLoad(options, limits, kLayout).message());
}
AttendLoadOptions With(void (*change)(AttendLoadOptions&)) {
  AttendLoadOptions options;
  change(options);
  return options;
}

TEST_CASE("the defaults and a request at each limit are taken") {
  CHECK(Fault({}) == "");
  CHECK(Fault(With([](auto& o) { o.query_tokens = 128; })) == "");
  CHECK(Fault(With([](auto& o) { o.concurrency = 64; })) == "");
}

TEST_CASE("a load beyond a limit of the daemon's is refused by the flag and the limit") {
  CHECK_THAT(
      Fault(With([](auto& o) { o.query_tokens = 100'000; })),
      Contains("--query-tokens 100000") && Contains("12800000") && Contains("rows_per_request"));
  CHECK_THAT(
      Fault(With([](auto& o) { o.concurrency = 100'000; })),
      Contains("--concurrency 100000") && Contains("64") && Contains("inflight_per_session"));
  CHECK_THAT(Fault(With([](auto& o) {
               o.query_tokens = 128;
               o.concurrency = 8;
             })),
             Contains("inflight_bytes_per_session"));
  CHECK_THAT(Fault(With([](auto& o) {
               o.tokens = 10'000;
               o.chunk_tokens = 1;
             })),
             Contains("10000 chunks") && Contains("chunks_per_request"));
  SessionLimits small = kLimits;
  small.payload_bytes_per_request = 100'000;
  CHECK_THAT(Fault({}, small), Contains("message") && Contains("144.0 KiB"));
}

TEST_CASE("a load beyond this machine's memory is refused with what it would take") {
  SessionLimits wide = kLimits;
  wide.inflight_requests = 1u << 20;
  wide.inflight_bytes = ~uint64_t{0};
  CHECK_THAT(Fault(With([](auto& o) { o.concurrency = 100'000; }), wide), Contains("26.0 GiB"));
  CHECK_THAT(Fault(With([](auto& o) {
               o.tokens = 1u << 30;
               o.chunk_tokens = 1u << 30;
             })),
             Contains("GiB") && Contains("--chunk-tokens"));
}

TEST_CASE("tokens are cut so that every holder gets a chunk") {
  AttendLoadOptions options;
  CHECK(options.chunks() == 1);
  options.holders = 3;
  CHECK(options.tokens_per_chunk() == 683);
  CHECK(options.chunks() == 3);
  options.chunk_tokens = 100;
  CHECK(options.chunks() == 21);
}

}  // namespace
}  // namespace latentd
