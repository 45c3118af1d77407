// `FakeDaemon` is as much of a daemon as a client can see - gRPC services and one lane over UCX -
// with a script instead of a store: a test says what is answered, and when.
//
// Any thread. The script runs on the lane's thread.
#ifndef LATENTD_CLIENT_TESTING_FAKE_DAEMON_H_
#define LATENTD_CLIENT_TESTING_FAKE_DAEMON_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "routing/layout.h"
#include "routing/routing_table.h"
#include "transport/wire_parse.h"

namespace latentd::testing {

struct FakeAnswer {
  absl::Status status;
  std::vector<std::byte> payload;
  std::vector<wire::MissingEntry> missing;  // ATTEND
  // In the reply's header.
  uint64_t epoch = 1;
  uint64_t compute_ns = 0;
  uint32_t batch_rows = 0;
  uint32_t lane_rows_queued = 0;
};

using Script = std::function<FakeAnswer(const ParsedRequest&)>;

struct FakeDaemonOptions {
  NodeId node = "node-a";
  uint32_t inflight_requests = 64;
  uint64_t payload_bytes_per_request = uint64_t{64} << 20;
  uint32_t ttl_ms = 30'000;
  // Tables that are set reach those who watch. Not by default: tests of refreshing must not be
  // helped by it.
  bool streams_tables = false;
};

class FakeDaemon {
 public:
  explicit FakeDaemon(FakeDaemonOptions options = {});
  ~FakeDaemon();
  FakeDaemon(const FakeDaemon&) = delete;
  FakeDaemon& operator=(const FakeDaemon&) = delete;

  // Two layers of tiny bf16 records: 8 + 8 values.
  static Layout TestLayout();

  const std::string& address() const;  // "127.0.0.1:port" of its gRPC
  void SetTable(std::shared_ptr<const RoutingTable> table);
  void SetScript(Script script);

  // From now on nothing is read that comes to the lane: the process hangs, its connections stand.
  void Freeze(bool frozen);
  // Requests (but HELLO and PING) are kept; Release answers them by the script.
  void Hold(bool hold);
  void Release();
  // The daemon restarts: tokens, generation and connections are new.
  void ForgetSessions();
  // Asks every client whether it lives; how many have answered so far.
  void PingClients();
  uint64_t pings_answered() const;

  uint64_t requests(wire::Opcode opcode) const;  // so far, HELLO and PING included
  uint64_t held() const;                         // requests that are kept now
  uint64_t most_at_once() const;                 // requests that were kept at the same time
  uint64_t sessions_opened() const;
  uint64_t sessions_closed() const;

 private:
  class Impl;
  const std::unique_ptr<Impl> impl_;
};

// A table over these daemons. `holders[i]` are indices of the daemons that hold slots [i, i + 1) /
// holders.size() of all slots, primary first.
std::shared_ptr<const RoutingTable> MakeTable(
    uint64_t epoch, const std::vector<std::pair<NodeId, std::string>>& nodes,
    const std::vector<std::vector<NodeIndex>>& holders);

// An answer of `value` everywhere in out, and 0 as every log-sum-exp.
Script AnswerAttendWith(float value);

}  // namespace latentd::testing

#endif  // LATENTD_CLIENT_TESTING_FAKE_DAEMON_H_
