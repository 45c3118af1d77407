// UCX in RAII: a `Worker` receives active messages and makes `Endpoint`s that send them.
//
// Thread rule: a Worker, its Endpoints and its IncomingMessages belong to one thread, the one that
// calls Progress; every callback runs inside Progress (or inside the call that started it, when it
// completes at once - never for Send, whose callback always runs later). `Context` is shared by
// workers and thread-safe.
#ifndef LATENTD_TRANSPORT_WORKER_H_
#define LATENTD_TRANSPORT_WORKER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace latentd {

struct ContextOptions {
  // UCX transports: {} = automatic (see docs), else e.g. {"tcp"}, {"shm"}, {"rc", "cuda"}.
  std::vector<std::string> transports;
  bool cuda = false;  // prepare for device memory
};

class Context {
 public:
  static absl::StatusOr<std::shared_ptr<Context>> Create(const ContextOptions& options);
  virtual ~Context() = default;
  // Registers memory for zero-copy use by every worker until the returned handle is destroyed.
  virtual absl::StatusOr<std::shared_ptr<void>> RegisterMemory(void* base, size_t bytes) = 0;
  // Whether UCX reports a peer whose process or machine died (a peer that hangs: see liveness.h).
  virtual bool reports_peer_failure() const = 0;
  // False with shared memory: a sender that dies while it writes can leave a hole in this worker's
  // receive queue, behind which no other shared-memory peer is heard. The cure is a new Worker.
  virtual bool receives_after_peer_death() const { return true; }
};

using SendCallback = std::function<void(absl::Status)>;

class Endpoint {
 public:
  // Destroying an endpoint closes it by force; callbacks of its sends in flight run (with a
  // CANCELLED or UNAVAILABLE status) in a later Progress. A message already handed to UCX may or
  // may not arrive.
  virtual ~Endpoint() = default;

  // Sends one active message. `header` is copied; `payload` (host or device memory) must stay valid
  // until `done`. Never fails at the call: a failed endpoint answers through `done`.
  virtual void Send(unsigned am_id, std::span<const std::byte> header,
                    std::span<const std::byte> payload, SendCallback done) = 0;
  // OK, or why the connection failed. A failed endpoint never recovers: make a new one.
  virtual const absl::Status& status() const = 0;
  // The transports UCX chose for it: "tcp/eth0", "rc_mlx5/mlx5_0:1 cuda_ipc/cuda".
  virtual std::string Transports() const = 0;
};

// A message whose header has arrived. Move-only. Destroying it without receiving discards the
// payload (and the sender still sees success, as UCX has it: so answer with an error).
class IncomingMessage {
 public:
  struct Impl;
  IncomingMessage();  // empty
  explicit IncomingMessage(std::unique_ptr<Impl> impl);
  IncomingMessage(IncomingMessage&&) noexcept;
  IncomingMessage& operator=(IncomingMessage&&) noexcept;
  ~IncomingMessage();

  std::span<const std::byte> header() const;  // a copy owned by this message
  uint64_t payload_bytes() const;
  // Eager payloads already lie in transport memory and stay valid as long as this message lives;
  // empty otherwise.
  std::span<const std::byte> eager_payload() const;
  bool is_eager() const;
  // Copies or pulls the payload into `dst` (payload_bytes() long, host or device), then calls
  // `done` once, never inside this call. `dst` must stay valid until then, and so must this
  // message. A receive ends with an error when the connection to the sender fails, or when the
  // endpoint that this worker made to the sender's worker is closed. REQUIRES such an endpoint: a
  // sender without one that goes away half way leaves its receive pending.
  void ReceiveInto(void* dst, std::function<void(absl::Status)> done);
  // Opaque identity of the sending endpoint, equal for all messages of one connection; 0 when
  // unknown.
  uint64_t sender() const;

  const Impl* impl() const { return impl_.get(); }  // the transport's own

 private:
  std::unique_ptr<Impl> impl_;
};

using MessageHandler = std::function<void(IncomingMessage)>;

class Worker {
 public:
  static absl::StatusOr<std::unique_ptr<Worker>> Create(std::shared_ptr<Context> context);
  virtual ~Worker() = default;

  // The bytes that a peer needs to connect here; exchanged through gRPC.
  virtual const std::string& address() const = 0;
  virtual size_t max_header_bytes() const = 0;  // of one active message

  // Called for each message of `am_id`. Set before the first Progress.
  virtual void SetHandler(unsigned am_id, MessageHandler handler) = 0;

  // Makes an endpoint to a peer's address. `on_failure` runs at most once, inside Progress, when
  // the connection fails. To answer a peer, call this inside the handler of a message from the
  // endpoint that is to be answered: the two become one connection. Made elsewhere, an endpoint
  // may be joined to one that the peer has closed before, and fail a second later.
  virtual absl::StatusOr<std::unique_ptr<Endpoint>> Connect(
      std::string_view peer_address, std::function<void(absl::Status)> on_failure) = 0;
  // Answers a sender that no endpoint was made for (an unauthenticated one) with one small message,
  // and ignores whatever else that sender sends: its connection ends when it closes its side. Only
  // inside the handler that got the message; later the sender may be gone, and the call does
  // nothing.
  virtual void ReplyAndClose(const IncomingMessage& message, unsigned am_id,
                             std::span<const std::byte> header) = 0;

  // Runs callbacks; returns the number of events handled.
  virtual unsigned Progress() = 0;
  // Readable when there is something to progress, after Arm() returned true. Arm() false: progress
  // again first.
  virtual int event_fd() const = 0;
  virtual bool Arm() = 0;
};

}  // namespace latentd

#endif  // LATENTD_TRANSPORT_WORKER_H_
