// `RawRequester` speaks the data plane by hand to one lane of a real daemon: it sends whatever
// bytes it is given, well-formed or not, and returns what came back. The client library refuses to
// make most of the mistakes that a daemon must survive.
//
// One thread: everything happens inside the calls.
#ifndef LATENTD_TESTS_CLUSTER_RAW_REQUESTER_H_
#define LATENTD_TESTS_CLUSTER_RAW_REQUESTER_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "tests/cluster/control.h"
#include "transport/wire.h"
#include "transport/wire_build.h"
#include "transport/worker.h"

namespace latentd::testing {

struct RawReply {
  wire::ReplyHeader header{};
  std::vector<std::byte> meta;
  std::vector<std::byte> payload;

  wire::Code code() const { return static_cast<wire::Code>(header.code); }
  // The text of an error reply.
  std::string text() const { return {reinterpret_cast<const char*>(meta.data()), meta.size()}; }
};

struct RawOptions {
  bool hello = true;            // binds the endpoint to the session
  std::string transports = "";  // one UCX name; empty: automatic
  std::string name = "raw-test";
  int lane = 0;
};

class RawRequester {
 public:
  // Opens a session at `endpoint`. Throws std::runtime_error.
  explicit RawRequester(const std::string& endpoint, const RawOptions& options = {});
  ~RawRequester();

  const v1::OpenResponse& session() const { return session_; }
  Control& control() { return control_; }

  // A header that the daemon has nothing against: token, epoch, generation and layout of the
  // session, a new request id, two seconds of time.
  wire::RequestHeader Header();

  // Sends and waits for the reply to `request_id`. UNAVAILABLE: the connection failed first;
  // UNAUTHENTICATED: refused() came first; DEADLINE_EXCEEDED: nothing came within `limit`.
  absl::StatusOr<RawReply> Call(const MessageBytes& message, uint64_t request_id,
                                std::span<const std::byte> payload = {},
                                absl::Duration limit = absl::Seconds(10));
  // Sends without waiting for anything; `am_id` may be one that does not exist.
  void Post(std::span<const std::byte> message, std::span<const std::byte> payload = {},
            unsigned am_id = wire::kRequestAm);
  // The reply to a request that was posted.
  absl::StatusOr<RawReply> Await(uint64_t request_id, absl::Duration limit = absl::Seconds(10));
  // Progresses until everything posted has left or failed, `limit` at most, and takes what came.
  void Flush(absl::Duration limit);
  // Gives up a failed connection and its session for new ones.
  absl::Status Reconnect();

  // The daemon took this for a stranger and hears no more of it: Reconnect.
  bool refused() const { return refused_; }
  const absl::Status& connection() const { return endpoint_->status(); }
  uint64_t replies_seen() const { return replies_seen_; }
  uint64_t errors_seen() const { return errors_seen_; }

 private:
  void OnReply(IncomingMessage message);
  void OnRequest(IncomingMessage message);
  void Keep(std::span<const std::byte> header, std::vector<std::byte> payload);
  absl::Status Open();
  absl::Status Hello();

  const RawOptions options_;
  Control control_;
  std::shared_ptr<Context> context_;
  std::unique_ptr<Worker> worker_;
  std::unique_ptr<Endpoint> endpoint_;
  v1::OpenResponse session_;
  bool refused_ = false;
  uint64_t next_id_ = 1;
  uint64_t posted_ = 0;
  uint64_t left_ = 0;
  uint64_t replies_seen_ = 0;
  uint64_t errors_seen_ = 0;
  std::map<uint64_t, RawReply> replies_;
};

}  // namespace latentd::testing

#endif  // LATENTD_TESTS_CLUSTER_RAW_REQUESTER_H_
