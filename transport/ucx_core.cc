#include "transport/ucx_core.h"

#include <chrono>
#include <cstring>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "transport/ucx_message.h"
#include "transport/ucx_status.h"

namespace latentd {
namespace {

constexpr size_t kMaxShunned = 4096;
constexpr uint32_t kMaxSkippedConnections = 256;
// How long a worker that is destroyed waits for UCX to hand back what is in flight. Cancelling
// takes microseconds.
constexpr std::chrono::seconds kShutdownLimit(2);
// Callbacks that start new sends while the worker is destroyed are answered this many times over.
constexpr int kShutdownRounds = 16;

uint64_t RandomSender() {
  std::random_device device;
  uint64_t sender = 0;
  while (sender == 0) sender = (uint64_t{device()} << 32) | device();
  return sender;
}

template <typename Node>
void Link(Node** head, Node* node) {
  node->previous = nullptr;
  node->next = *head;
  if (*head != nullptr) (*head)->previous = node;
  *head = node;
}

template <typename Node>
void Unlink(Node** head, Node* node) {
  if (node->previous != nullptr) node->previous->next = node->next;
  if (node->next != nullptr) node->next->previous = node->previous;
  if (*head == node) *head = node->next;
  node->previous = node->next = nullptr;
}

}  // namespace

UcxCore::UcxCore(std::shared_ptr<UcxContext> context, ucp_worker_h handle, uint64_t worker_id,
                 size_t max_am_header)
    : context_(std::move(context)),
      handle_(handle),
      worker_id_(worker_id),
      scratch_(max_am_header) {}

UcxCore::~UcxCore() {
  for (const auto& state : endpoints_) {
    if (state->status.ok()) state->status = absl::CancelledError("the worker was destroyed");
    state->core = nullptr;
    state->on_failure = nullptr;
    ForceClose(state.get());
  }
  while (messages_ != nullptr) {
    IncomingMessage::Impl* message = messages_;
    if (message->data != nullptr)
      ucp_am_data_release(handle_, std::exchange(message->data, nullptr));
    Untrack(message);
    message->core = nullptr;
  }
  const auto deadline = std::chrono::steady_clock::now() + kShutdownLimit;
  for (int round = 0; round < kShutdownRounds; ++round) {
    do {
      in_ucx_ = true;
      ucp_worker_progress(handle_);
      in_ucx_ = false;
      for (PostponedReceive& receive : std::exchange(postponed_receives_, {})) {
        StartReceive(receive);
      }
    } while (in_flight_ != nullptr && std::chrono::steady_clock::now() < deadline);
    if (RunPostponed() == 0) break;
  }
  while (in_flight_ != nullptr) {
    // UCX may still call back for it: the operation is left behind without its callback.
    UcxOperation* operation = in_flight_;
    Unlink(&in_flight_, operation);
    operation->core = nullptr;
    operation->endpoint = nullptr;
    std::exchange(operation->done, nullptr)(absl::CancelledError("the worker was destroyed"));
  }
  ucp_worker_destroy(handle_);
}

unsigned UcxCore::Progress() {
  in_ucx_ = true;
  unsigned events = ucp_worker_progress(handle_);
  in_ucx_ = false;
  return events + RunPostponed();
}

unsigned UcxCore::RunPostponed() {
  unsigned events = 0;
  if (!postponed_receives_.empty()) {
    for (PostponedReceive& receive : std::exchange(postponed_receives_, {})) {
      StartReceive(receive);
      ++events;
    }
  }
  if (!failed_.empty()) CloseFailedEndpoints();
  if (!postponed_closes_.empty()) {
    for (const auto& state : std::exchange(postponed_closes_, {})) ForceClose(state.get());
  }
  // Callbacks may schedule more: those run in the next Progress, so that one busy caller cannot
  // keep it here.
  if (!completions_.empty()) {
    running_.swap(completions_);
    for (Completion& completion : running_) {
      completion.done(std::move(completion.status));
      ++events;
    }
    running_.clear();
  }
  return events;
}

void UcxCore::CloseFailedEndpoints() {
  for (const auto& state : std::exchange(failed_, {})) {
    // UCX keeps a failed endpoint until it is closed; closing hands back what was in flight on it.
    ForceClose(state.get());
    if (state->on_failure) std::exchange(state->on_failure, nullptr)(state->status);
  }
}

bool UcxCore::Arm() {
  if (!completions_.empty() || !failed_.empty() || !postponed_receives_.empty() ||
      !postponed_closes_.empty()) {
    return false;
  }
  return ucp_worker_arm(handle_) == UCS_OK;
}

absl::Status UcxCore::SetHandler(unsigned am_id, MessageHandler handler) {
  auto slot = std::make_unique<HandlerSlot>(HandlerSlot{this, std::move(handler)});
  ucp_am_handler_param_t param = {};
  param.field_mask = UCP_AM_HANDLER_PARAM_FIELD_ID | UCP_AM_HANDLER_PARAM_FIELD_FLAGS |
                     UCP_AM_HANDLER_PARAM_FIELD_CB | UCP_AM_HANDLER_PARAM_FIELD_ARG;
  param.id = am_id;
  // Eager data must outlive the callback: the lane batches requests before it reads their rows.
  param.flags = UCP_AM_FLAG_WHOLE_MSG | UCP_AM_FLAG_PERSISTENT_DATA;
  param.cb = &UcxCore::OnMessage;
  param.arg = slot.get();
  if (const ucs_status_t status = ucp_worker_set_am_recv_handler(handle_, &param);
      status != UCS_OK) {
    return FromUcx(status, absl::StrCat("setting the handler of active message ", am_id));
  }
  handlers_[am_id] = std::move(slot);
  return absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<EndpointState>> UcxCore::Connect(
    std::string_view ucx_address, std::function<void(absl::Status)> failed) {
  ucp_worker_address_attr_t peer = {};
  peer.field_mask = UCP_WORKER_ADDRESS_ATTR_FIELD_UID;
  if (const ucs_status_t status = ucp_worker_address_query(
          reinterpret_cast<ucp_address_t*>(const_cast<char*>(ucx_address.data())), &peer);
      status != UCS_OK) {
    return FromUcx(status, "reading a peer's address");
  }
  uint32_t& connection = connections_[peer.worker_uid];
  // Answering a message: its endpoint is the one to be paired with (see Preamble). Endpoints to get
  // into step are made and closed at once. The bound is for peers that lie.
  if (handling_ != nullptr && handling_->worker == peer.worker_uid &&
      handling_->connection > connection &&
      handling_->connection - connection <= kMaxSkippedConnections) {
    while (connection < handling_->connection) {
      auto skipped = std::make_shared<EndpointState>();
      skipped->core = this;
      if (CreateEndpoint(ucx_address, skipped.get()) != UCS_OK) break;
      ++connection;
      Close(skipped);
    }
  }
  auto state = std::make_shared<EndpointState>();
  state->core = this;
  state->preamble = {.sender = RandomSender(), .worker = worker_id_, .connection = connection++};
  state->on_failure = std::move(failed);
  if (const ucs_status_t status = CreateEndpoint(ucx_address, state.get()); status != UCS_OK) {
    if (status == UCS_ERR_UNREACHABLE) {
      return absl::FailedPreconditionError(
          "connecting to a peer: no transport and device in common");
    }
    return FromUcx(status, "connecting to a peer");
  }
  endpoints_.insert(state);
  return state;
}

ucs_status_t UcxCore::CreateEndpoint(std::string_view ucx_address, EndpointState* state) {
  ucp_ep_params_t params = {};
  params.field_mask = UCP_EP_PARAM_FIELD_REMOTE_ADDRESS | UCP_EP_PARAM_FIELD_ERR_HANDLING_MODE |
                      UCP_EP_PARAM_FIELD_ERR_HANDLER;
  params.address = reinterpret_cast<const ucp_address_t*>(ucx_address.data());
  params.err_mode = UCP_ERR_HANDLING_MODE_PEER;
  params.err_handler.cb = &UcxCore::OnEndpointError;
  params.err_handler.arg = state;
  return ucp_ep_create(handle_, &params, &state->ep);
}

void UcxCore::OnEndpointError(void* arg, ucp_ep_h, ucs_status_t status) {
  auto* state = static_cast<EndpointState*>(arg);
  if (state->core == nullptr || !state->status.ok()) return;
  state->status = absl::UnavailableError(
      absl::StrCat("the connection to the peer failed: ", ucs_status_string(status)));
  state->core->failed_.push_back(state->shared_from_this());
}

void UcxCore::Close(const std::shared_ptr<EndpointState>& state) {
  if (state->status.ok()) state->status = absl::CancelledError("the endpoint was closed");
  state->on_failure = nullptr;
  endpoints_.erase(state);
  if (in_ucx_) {
    postponed_closes_.push_back(state);
  } else {
    ForceClose(state.get());
  }
}

void UcxCore::ForceClose(EndpointState* state) {
  if (state->ep == nullptr) return;
  ucp_request_param_t param = {};
  param.op_attr_mask = UCP_OP_ATTR_FIELD_FLAGS;
  param.flags = UCP_EP_CLOSE_FLAG_FORCE;
  const ucs_status_ptr_t request = ucp_ep_close_nbx(std::exchange(state->ep, nullptr), &param);
  if (UCS_PTR_IS_PTR(request)) ucp_request_free(request);
}

void UcxCore::Schedule(SendCallback done, absl::Status status) {
  completions_.push_back({std::move(done), std::move(status)});
}

std::span<const std::byte> UcxCore::WithPreamble(const Preamble& preamble,
                                                 std::span<const std::byte> header) {
  std::memcpy(scratch_.data(), &preamble, sizeof(preamble));
  if (!header.empty()) {
    std::memcpy(scratch_.data() + sizeof(preamble), header.data(), header.size());
  }
  return {scratch_.data(), sizeof(preamble) + header.size()};
}

void UcxCore::Send(const std::shared_ptr<EndpointState>& state, unsigned am_id,
                   std::span<const std::byte> header, std::span<const std::byte> payload,
                   SendCallback done) {
  if (!state->status.ok()) return Schedule(std::move(done), state->status);
  if (header.size() > max_header_bytes()) {
    return Schedule(std::move(done), absl::InvalidArgumentError(absl::StrCat(
                                         "message header: got ", header.size(),
                                         " bytes, expected at most ", max_header_bytes())));
  }
  const auto message = WithPreamble(state->preamble, header);
  UcxOperation* operation = StartOperation(state, std::move(done));
  ucp_request_param_t param = {};
  param.op_attr_mask =
      UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA | UCP_OP_ATTR_FIELD_FLAGS;
  param.flags = UCP_AM_SEND_FLAG_REPLY | UCP_AM_SEND_FLAG_COPY_HEADER;
  param.cb.send = &UcxCore::OnSent;
  param.user_data = operation;
  DescribeMemory(payload.data(), payload.size(), &param);
  const ucs_status_ptr_t request =
      ucp_am_send_nbx(state->ep, am_id, message.data(), message.size(),
                      payload.empty() ? nullptr : payload.data(), payload.size(), &param);
  if (!UCS_PTR_IS_PTR(request)) FinishOperation(operation, UCS_PTR_STATUS(request));
}

void UcxCore::ReplyAndShun(ucp_ep_h reply_ep, uint64_t sender, unsigned am_id,
                           std::span<const std::byte> header) {
  if (shunned_.insert(sender).second) {
    shunned_order_.push_back(sender);
    if (shunned_order_.size() > kMaxShunned) {
      shunned_.erase(shunned_order_.front());
      shunned_order_.pop_front();
    }
  }
  if (reply_ep == nullptr || header.size() > max_header_bytes()) return;
  const auto message = WithPreamble({.worker = worker_id_}, header);
  UcxOperation* operation = StartOperation(nullptr, [](const absl::Status&) {});
  ucp_request_param_t param = {};
  param.op_attr_mask =
      UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA | UCP_OP_ATTR_FIELD_FLAGS;
  param.flags = UCP_AM_SEND_FLAG_EAGER | UCP_AM_SEND_FLAG_COPY_HEADER;
  param.cb.send = &UcxCore::OnSent;
  param.user_data = operation;
  const ucs_status_ptr_t request =
      ucp_am_send_nbx(reply_ep, am_id, message.data(), message.size(), nullptr, 0, &param);
  if (!UCS_PTR_IS_PTR(request)) FinishOperation(operation, UCS_PTR_STATUS(request));
}

void UcxCore::OnSent(void* request, ucs_status_t status, void* user_data) {
  auto* operation = static_cast<UcxOperation*>(user_data);
  ucp_request_free(request);
  if (operation->core == nullptr) {
    delete operation;
    return;
  }
  operation->core->FinishOperation(operation, status);
}

void UcxCore::OnReceived(void* request, ucs_status_t status, size_t, void* user_data) {
  OnSent(request, status, user_data);
}

void UcxCore::Receive(void* desc, void* dst, size_t bytes, std::function<void(absl::Status)> done) {
  const PostponedReceive receive = {desc, dst, bytes, StartOperation(nullptr, std::move(done))};
  // Inside its own callback UCX has other rules for a descriptor.
  if (in_ucx_) {
    postponed_receives_.push_back(receive);
  } else {
    StartReceive(receive);
  }
}

void UcxCore::StartReceive(const PostponedReceive& receive) {
  ucp_request_param_t param = {};
  param.op_attr_mask = UCP_OP_ATTR_FIELD_CALLBACK | UCP_OP_ATTR_FIELD_USER_DATA;
  param.cb.recv_am = &UcxCore::OnReceived;
  param.user_data = receive.operation;
  DescribeMemory(receive.dst, receive.bytes, &param);
  const ucs_status_ptr_t request =
      ucp_am_recv_data_nbx(handle_, receive.desc, receive.dst, receive.bytes, &param);
  if (!UCS_PTR_IS_PTR(request)) FinishOperation(receive.operation, UCS_PTR_STATUS(request));
}

UcxOperation* UcxCore::StartOperation(std::shared_ptr<EndpointState> endpoint, SendCallback done) {
  if (free_operations_.empty()) free_operations_.push_back(std::make_unique<UcxOperation>());
  UcxOperation* operation = free_operations_.back().release();
  free_operations_.pop_back();
  operation->core = this;
  operation->endpoint = std::move(endpoint);
  operation->done = std::move(done);
  Link(&in_flight_, operation);
  return operation;
}

void UcxCore::FinishOperation(UcxOperation* operation, ucs_status_t status) {
  Unlink(&in_flight_, operation);
  absl::Status result;
  if (status != UCS_OK) {
    // UCX reports CANCELED for whatever was in flight on a connection that failed: say why.
    const EndpointState* endpoint = operation->endpoint.get();
    result = endpoint != nullptr && !endpoint->status.ok() ? endpoint->status
             : status == UCS_ERR_CANCELED
                 ? absl::UnavailableError("the peer went away with a payload half way")
                 : FromUcx(status, "moving a payload");
  }
  Schedule(std::move(operation->done), std::move(result));
  operation->done = nullptr;
  operation->endpoint = nullptr;
  free_operations_.emplace_back(operation);
}

void UcxCore::DescribeMemory(const void* base, size_t bytes, ucp_request_param_t* param) {
  if (bytes == 0) return;
  const RegisteredRange* range = FindRange(base, bytes);
  if (range != nullptr) {
    param->op_attr_mask |= UCP_OP_ATTR_FIELD_MEMH;
    param->memh = range->memh;
  }
  if (range != nullptr || !context_->cuda()) {
    // Saves UCX the question what kind of memory this is.
    param->op_attr_mask |= UCP_OP_ATTR_FIELD_MEMORY_TYPE;
    param->memory_type = range != nullptr ? range->type : UCS_MEMORY_TYPE_HOST;
  }
}

bool UcxCore::IsHostMemory(const void* base, size_t bytes) {
  if (!context_->cuda()) return true;
  const RegisteredRange* range = FindRange(base, bytes);
  return range != nullptr && range->type == UCS_MEMORY_TYPE_HOST;
}

const RegisteredRange* UcxCore::FindRange(const void* base, size_t bytes) {
  if (context_->ranges_version() != ranges_version_) {
    ranges_version_ = context_->ranges_version();
    ranges_ = context_->ranges();
  }
  const auto begin = reinterpret_cast<uintptr_t>(base);
  for (const RegisteredRange& range : ranges_) {
    if (range.begin <= begin && begin + bytes <= range.end) return &range;
  }
  return nullptr;
}

void UcxCore::Track(IncomingMessage::Impl* message) { Link(&messages_, message); }
void UcxCore::Untrack(IncomingMessage::Impl* message) { Unlink(&messages_, message); }

}  // namespace latentd
