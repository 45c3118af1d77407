// What tests of the client begin with: a client of scripted daemons, and a small query. Test
// support.
#ifndef LATENTD_CLIENT_TESTING_FIXTURE_H_
#define LATENTD_CLIENT_TESTING_FIXTURE_H_

#include <cstring>
#include <memory>
#include <vector>

#include "absl/time/clock.h"
#include "catch2/catch.hpp"
#include "client/client.h"
#include "client/testing/fake_daemon.h"
#include "kernels/bf16.h"

namespace latentd::testing {

inline constexpr Geometry kGeometry = {.latent_width = 8, .rope_width = 8};
inline constexpr absl::Duration kLong = absl::Seconds(20);
// In slots 0 and 32768: the first and the second half of a table.
inline constexpr ChunkId kFirst = {.hi = 1, .lo = 1};
inline constexpr ChunkId kSecond = {.hi = uint64_t{1} << 63, .lo = 2};

inline ClientOptions Options(const FakeDaemon& daemon) {
  return {.endpoints = {daemon.address()},
          .client_name = "test",
          .transports = {"tcp"},
          .ping_after = absl::Milliseconds(50),
          .dead_after = absl::Milliseconds(250)};
}

// Of a client that takes nobody for dead: nothing but a call's own time ends it.
inline ClientOptions PatientOptions(const FakeDaemon& daemon) {
  ClientOptions options = Options(daemon);
  options.ping_after = options.dead_after = absl::Seconds(60);
  return options;
}

inline std::unique_ptr<Client> ConnectWith(const ClientOptions& options) {
  auto client = Client::Connect(options);
  INFO(client.status().ToString());
  REQUIRE(client.ok());
  return *std::move(client);
}

inline std::unique_ptr<Client> ConnectTo(const FakeDaemon& daemon) {
  return ConnectWith(Options(daemon));
}

// Turns the client until `done`. False: it took too long.
template <typename Done>
bool TurnUntil(Client& client, const Done& done) {
  const absl::Time give_up = absl::Now() + absl::Seconds(15);
  while (absl::Now() < give_up) {
    if (done()) return true;
    if (!client.Progress()) absl::SleepFor(absl::Microseconds(50));
  }
  return false;
}

// One query token of two heads over 10 tokens of each chunk.
struct Query {
  explicit Query(std::vector<ChunkId> ids, bool tolerate = false) : best_effort(tolerate) {
    for (const ChunkId& id : ids) chunks.push_back({id, 10});
    group = {.tokens = 1, .chunks = chunks};
  }
  AttendQuery args() {
    return {.layer = 0,
            .scale = 1,
            .heads = 2,
            .groups = {&group, 1},
            .rows = rows,
            .out = out,
            .lse = lse,
            .best_effort = best_effort};
  }
  float out_value() const {
    Bf16 bits;
    std::memcpy(&bits, out.data(), sizeof(bits));
    return Bf16ToFloat(bits);
  }

  bool best_effort;
  std::vector<VisibleChunk> chunks;
  QueryGroup group;
  std::vector<Bf16> rows = std::vector<Bf16>(2 * kGeometry.row_width());
  std::vector<std::byte> out = std::vector<std::byte>(2 * kGeometry.latent_width * sizeof(Bf16));
  std::vector<float> lse = std::vector<float>(2, 77);
};

// Two daemons; the first holds the first half of all slots, the second the second half.
struct Pair {
  Pair() { Place(1, {{0}, {1}}); }
  void Place(uint64_t epoch, const std::vector<std::vector<NodeIndex>>& holders) {
    const auto table =
        MakeTable(epoch, {{"node-a", a.address()}, {"node-b", b.address()}}, holders);
    a.SetTable(table);
    b.SetTable(table);
  }
  FakeDaemon a{{.node = "node-a"}};
  FakeDaemon b{{.node = "node-b"}};
};

}  // namespace latentd::testing

#endif  // LATENTD_CLIENT_TESTING_FIXTURE_H_
