// What a worker, its endpoints, its messages and its operations in flight share: the ucp_worker and
// the queues of work that must not be done inside UCX's own stack.
//
// UCX calls back from deep inside ucp_worker_progress, where closing an endpoint pulls the floor
// from under it. So UCX's callbacks only take notes here (a completed operation, a failed
// endpoint), and Progress acts on them afterwards:
//   ucp_worker_progress -> postponed receives -> failed endpoints -> postponed closes ->
//   completions
// Message handlers are the exception. They run inside UCX's stack, because a sender without an
// endpoint of ours can be answered only there (see Reply); what they start is postponed where it
// must be.
#ifndef LATENTD_TRANSPORT_UCX_CORE_H_
#define LATENTD_TRANSPORT_UCX_CORE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "transport/ucx_context.h"
#include "transport/worker.h"
#include "ucp/api/ucp.h"

namespace latentd {

class UcxCore;

// Every message starts with who sent it.
//
// `sender` is 64 random bits per endpoint. UCX's own handle of a sender is no identity: UCX frees
// it silently when an unanswered peer disconnects, and the next peer may get the same address.
//
// `connection` counts the endpoints that the sending worker made to this one. UCX pairs the n-th
// endpoint of one worker with the n-th of the other, dead or alive; when one side has made more (a
// client that was refused and came back) the pairs are out of step, and an endpoint paired with a
// dead one sends into the void until keepalive notices, a second later. So an answering worker
// first gets into step: see Connect.
struct Preamble {
  uint64_t sender;
  uint64_t worker;  // UCX's id of the sending worker
  uint32_t connection;
  uint32_t reserved;
};
static_assert(sizeof(Preamble) == 24);

// States: open (ep set, status OK) -> failed (status set; ep closed after the current UCX call) ->
// closed (ep null), or open -> closed when the Endpoint is destroyed. There is no way back.
struct EndpointState : std::enable_shared_from_this<EndpointState> {
  UcxCore* core = nullptr;  // null once the worker is gone
  Preamble preamble = {};   // of its messages
  ucp_ep_h ep = nullptr;
  absl::Status status;
  std::function<void(absl::Status)> on_failure;
};

// A send or a receive that UCX has not finished.
struct UcxOperation {
  UcxCore* core = nullptr;                  // null once abandoned by a worker that was destroyed
  std::shared_ptr<EndpointState> endpoint;  // null for receives
  SendCallback done;
  UcxOperation* previous = nullptr;
  UcxOperation* next = nullptr;
};

class UcxCore {
 public:
  UcxCore(std::shared_ptr<UcxContext> context, ucp_worker_h handle, uint64_t worker_id,
          size_t max_am_header);
  // Closes every endpoint and runs the callbacks still owed.
  ~UcxCore();
  UcxCore(const UcxCore&) = delete;
  UcxCore& operator=(const UcxCore&) = delete;

  ucp_worker_h handle() const { return handle_; }
  // Bytes that the host may touch; false where nobody has said what memory it is.
  bool IsHostMemory(const void* base, size_t bytes);
  size_t max_header_bytes() const { return scratch_.size() - sizeof(Preamble); }

  unsigned Progress();
  bool Arm();

  absl::Status SetHandler(unsigned am_id, MessageHandler handler);

  absl::StatusOr<std::shared_ptr<EndpointState>> Connect(std::string_view ucx_address,
                                                         std::function<void(absl::Status)> failed);
  void Close(const std::shared_ptr<EndpointState>& state);
  void Send(const std::shared_ptr<EndpointState>& state, unsigned am_id,
            std::span<const std::byte> header, std::span<const std::byte> payload,
            SendCallback done);
  // Answers the sender of a message whose handler is running, and ignores that sender from then on.
  void ReplyAndShun(ucp_ep_h reply_ep, uint64_t sender, unsigned am_id,
                    std::span<const std::byte> header);
  bool shunned(uint64_t sender) const { return shunned_.contains(sender); }

  // Takes `desc` over from the message.
  void Receive(void* desc, void* dst, size_t bytes, std::function<void(absl::Status)> done);
  void Schedule(SendCallback done, absl::Status status);

  // Messages that hold transport memory, so that none outlives the worker with it.
  void Track(IncomingMessage::Impl* message);
  void Untrack(IncomingMessage::Impl* message);

 private:
  struct HandlerSlot {
    UcxCore* core;
    MessageHandler handler;
  };
  struct PostponedReceive {
    void* desc;
    void* dst;
    size_t bytes;
    UcxOperation* operation;
  };
  struct Completion {
    SendCallback done;
    absl::Status status;
  };

  static ucs_status_t OnMessage(void* arg, const void* header, size_t header_length, void* data,
                                size_t length, const ucp_am_recv_param_t* param);
  static void OnEndpointError(void* arg, ucp_ep_h ep, ucs_status_t status);
  static void OnSent(void* request, ucs_status_t status, void* user_data);
  static void OnReceived(void* request, ucs_status_t status, size_t length, void* user_data);

  UcxOperation* StartOperation(std::shared_ptr<EndpointState> endpoint, SendCallback done);
  void FinishOperation(UcxOperation* operation, ucs_status_t status);
  void StartReceive(const PostponedReceive& receive);
  // The registered memory that the bytes lie in; null when they do not.
  const RegisteredRange* FindRange(const void* base, size_t bytes);
  // The parts of a ucp_request_param_t that tell UCX what memory this is.
  void DescribeMemory(const void* base, size_t bytes, ucp_request_param_t* param);
  std::span<const std::byte> WithPreamble(const Preamble& preamble,
                                          std::span<const std::byte> header);
  ucs_status_t CreateEndpoint(std::string_view ucx_address, EndpointState* state);
  void ForceClose(EndpointState* state);
  void CloseFailedEndpoints();
  unsigned RunPostponed();

  const std::shared_ptr<UcxContext> context_;
  ucp_worker_h handle_;
  const uint64_t worker_id_;
  bool in_ucx_ = false;
  const Preamble* handling_ = nullptr;  // of the message whose handler is running
  std::vector<std::byte> scratch_;      // one message's preamble and header; UCX copies it
  absl::flat_hash_map<unsigned, std::unique_ptr<HandlerSlot>> handlers_;

  // How many endpoints were made to each worker: the next one's number, as UCX counts.
  absl::flat_hash_map<uint64_t, uint32_t> connections_;
  // Open and failed endpoints. A state lives until its ucp_ep is closed: UCX's error callback
  // points to it.
  absl::flat_hash_set<std::shared_ptr<EndpointState>> endpoints_;
  std::vector<std::shared_ptr<EndpointState>> failed_;
  std::vector<std::shared_ptr<EndpointState>> postponed_closes_;
  std::vector<PostponedReceive> postponed_receives_;
  std::vector<Completion> completions_;
  std::vector<Completion> running_;  // completions_ of this Progress; kept for its capacity

  UcxOperation* in_flight_ = nullptr;  // a list
  std::vector<std::unique_ptr<UcxOperation>> free_operations_;
  IncomingMessage::Impl* messages_ = nullptr;  // a list

  // Bounded: the oldest is forgotten, and answered again if it should still be there.
  absl::flat_hash_set<uint64_t> shunned_;
  std::deque<uint64_t> shunned_order_;

  uint64_t ranges_version_ = 0;
  std::vector<RegisteredRange> ranges_;
};

}  // namespace latentd

#endif  // LATENTD_TRANSPORT_UCX_CORE_H_
