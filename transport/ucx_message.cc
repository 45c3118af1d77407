#include "transport/ucx_message.h"

#include <cstring>
#include <utility>

namespace latentd {

IncomingMessage::Impl::~Impl() {
  if (scope != nullptr) {
    // UCX's callback gives the data back by its return value.
    *scope = {.destroyed = true, .data_released = data != nullptr};
  } else if (core != nullptr && data != nullptr) {
    ucp_am_data_release(core->handle(), data);
  }
  if (core != nullptr) core->Untrack(this);
}

IncomingMessage::IncomingMessage(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
IncomingMessage::IncomingMessage() = default;
IncomingMessage::IncomingMessage(IncomingMessage&&) noexcept = default;
IncomingMessage& IncomingMessage::operator=(IncomingMessage&&) noexcept = default;
IncomingMessage::~IncomingMessage() = default;

std::span<const std::byte> IncomingMessage::header() const {
  if (impl_ == nullptr) return {};
  return {impl_->header.data(), impl_->header.size()};
}

uint64_t IncomingMessage::payload_bytes() const {
  return impl_ == nullptr ? 0 : impl_->payload_bytes;
}

bool IncomingMessage::is_eager() const { return impl_ == nullptr || impl_->eager; }

std::span<const std::byte> IncomingMessage::eager_payload() const {
  if (impl_ == nullptr || !impl_->eager || impl_->data == nullptr) return {};
  return {static_cast<const std::byte*>(impl_->data), impl_->payload_bytes};
}

uint64_t IncomingMessage::sender() const { return impl_ == nullptr ? 0 : impl_->sender; }

void IncomingMessage::ReceiveInto(void* dst, std::function<void(absl::Status)> done) {
  if (impl_ == nullptr || impl_->core == nullptr) {
    // The worker is gone: nothing will ever run `done` later.
    done(absl::CancelledError("receiving a payload: the worker was destroyed"));
    return;
  }
  UcxCore* core = impl_->core;
  if (impl_->payload_bytes == 0) {
    core->Schedule(std::move(done), absl::OkStatus());
    return;
  }
  if (impl_->data == nullptr) {
    core->Schedule(std::move(done),
                   absl::FailedPreconditionError("receiving a payload: already received"));
    return;
  }
  if (impl_->eager && core->IsHostMemory(dst, impl_->payload_bytes)) {
    std::memcpy(dst, impl_->data, impl_->payload_bytes);
    core->Schedule(std::move(done), absl::OkStatus());
    return;
  }
  core->Receive(std::exchange(impl_->data, nullptr), dst, impl_->payload_bytes, std::move(done));
}

ucs_status_t UcxCore::OnMessage(void* arg, const void* header, size_t header_length, void* data,
                                size_t length, const ucp_am_recv_param_t* param) {
  const auto* slot = static_cast<HandlerSlot*>(arg);
  // Not from a latentd of this protocol. There is nobody to answer; a rendezvous is dropped by
  // returning UCS_OK.
  if (header_length < sizeof(Preamble)) return UCS_OK;
  Preamble preamble;
  std::memcpy(&preamble, header, sizeof(preamble));
  if (slot->core->shunned(preamble.sender)) return UCS_OK;

  auto impl = std::make_unique<IncomingMessage::Impl>();
  const auto* bytes = static_cast<const std::byte*>(header);
  impl->header.assign(bytes + sizeof(preamble), bytes + header_length);
  impl->core = slot->core;
  impl->sender = preamble.sender;
  impl->payload_bytes = length;
  impl->eager = (param->recv_attr & UCP_AM_RECV_ATTR_FLAG_RNDV) == 0;
  const bool can_keep =
      (param->recv_attr & (UCP_AM_RECV_ATTR_FLAG_RNDV | UCP_AM_RECV_ATTR_FLAG_DATA)) != 0;
  if (length != 0 && can_keep) impl->data = data;
  if ((param->recv_attr & UCP_AM_RECV_ATTR_FIELD_REPLY_EP) != 0) impl->reply_ep = param->reply_ep;

  const bool holds_data = impl->data != nullptr;
  IncomingMessage::Impl* raw = impl.get();
  IncomingMessage::Impl::HandlerScope scope;
  raw->scope = &scope;
  slot->core->Track(raw);
  slot->core->handling_ = &preamble;
  slot->handler(IncomingMessage(std::move(impl)));
  slot->core->handling_ = nullptr;
  if (scope.destroyed) return holds_data && !scope.data_released ? UCS_INPROGRESS : UCS_OK;
  raw->scope = nullptr;
  raw->reply_ep = nullptr;
  return holds_data ? UCS_INPROGRESS : UCS_OK;
}

}  // namespace latentd
