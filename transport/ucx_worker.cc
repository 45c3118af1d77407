#include <algorithm>
#include <cstdlib>
#include <string>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "transport/ucx_address.h"
#include "transport/ucx_context.h"
#include "transport/ucx_core.h"
#include "transport/ucx_endpoint.h"
#include "transport/ucx_message.h"
#include "transport/ucx_status.h"
#include "transport/worker.h"

namespace latentd {
namespace {

class UcxWorker : public Worker {
 public:
  UcxWorker(std::unique_ptr<UcxCore> core, std::string transports, std::string address,
            int event_fd)
      : core_(std::move(core)),
        transports_(std::move(transports)),
        address_(std::move(address)),
        event_fd_(event_fd) {}

  const std::string& address() const override { return address_; }
  size_t max_header_bytes() const override { return core_->max_header_bytes(); }

  void SetHandler(unsigned am_id, MessageHandler handler) override {
    // Fails only for ids beyond 16 bits, which is a bug of the caller.
    if (!core_->SetHandler(am_id, std::move(handler)).ok()) std::abort();
  }

  absl::StatusOr<std::unique_ptr<Endpoint>> Connect(
      std::string_view peer_address, std::function<void(absl::Status)> on_failure) override {
    const auto peer = UnwrapAddress(peer_address);
    if (!peer.ok()) return peer.status();
    const auto own = UnwrapAddress(address_);
    if (!own.ok()) return own.status();
    if (absl::Status same = CheckUcxVersion(*own, *peer); !same.ok()) return same;
    auto state = core_->Connect(peer->ucx, std::move(on_failure));
    if (!state.ok()) {
      return absl::Status(
          state.status().code(),
          absl::StrCat(std::string(state.status().message()), " (transports: ", transports_,
                       " here, ", absl::CHexEscape(std::string(peer->transports)), " there)"));
    }
    return std::make_unique<UcxEndpoint>(*std::move(state));
  }

  void ReplyAndClose(const IncomingMessage& message, unsigned am_id,
                     std::span<const std::byte> header) override {
    const IncomingMessage::Impl* impl = message.impl();
    if (impl == nullptr || impl->scope == nullptr) return;
    core_->ReplyAndShun(impl->reply_ep, impl->sender, am_id, header);
  }

  unsigned Progress() override { return core_->Progress(); }
  int event_fd() const override { return event_fd_; }
  bool Arm() override { return core_->Arm(); }

 private:
  const std::unique_ptr<UcxCore> core_;
  const std::string transports_;
  const std::string address_;
  const int event_fd_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Worker>> Worker::Create(std::shared_ptr<Context> context) {
  auto ucx_context = std::dynamic_pointer_cast<UcxContext>(std::move(context));
  if (ucx_context == nullptr) {
    return absl::InvalidArgumentError("creating a worker: the context is not one of UCX");
  }
  ucp_worker_params_t params = {};
  params.field_mask = UCP_WORKER_PARAM_FIELD_THREAD_MODE | UCP_WORKER_PARAM_FIELD_AM_ALIGNMENT;
  // Made on one thread, used on another: not at once, but not "the master thread only" either.
  params.thread_mode = UCS_THREAD_MODE_SERIALIZED;
  params.am_alignment = 64;  // rows are read where they arrived, by vector loads
  ucp_worker_h handle = nullptr;
  if (const ucs_status_t status = ucp_worker_create(ucx_context->handle(), &params, &handle);
      status != UCS_OK) {
    return FromUcx(status, "creating a worker");
  }
  ucp_worker_attr_t attributes = {};
  attributes.field_mask = UCP_WORKER_ATTR_FIELD_MAX_AM_HEADER | UCP_WORKER_ATTR_FIELD_ADDRESS;
  ucs_status_t status = ucp_worker_query(handle, &attributes);
  if (status != UCS_OK) {
    ucp_worker_destroy(handle);
    return FromUcx(status, "querying a worker");
  }
  std::string transports = absl::StrJoin(ucx_context->transports(), ",");
  std::string address = WrapAddress(
      {{reinterpret_cast<const char*>(attributes.address), attributes.address_length}, transports});
  ucp_worker_address_attr_t identity = {};
  identity.field_mask = UCP_WORKER_ADDRESS_ATTR_FIELD_UID;
  status = ucp_worker_address_query(attributes.address, &identity);
  ucp_worker_release_address(handle, attributes.address);
  const size_t max_header = std::min(attributes.max_am_header, ucx_context->safe_header_bytes());
  auto core = std::make_unique<UcxCore>(ucx_context, handle, identity.worker_uid, max_header);
  if (status != UCS_OK) return FromUcx(status, "reading a worker's address");

  int event_fd = -1;
  status = ucp_worker_get_efd(handle, &event_fd);
  if (status != UCS_OK) return FromUcx(status, "getting a worker's event descriptor");
  return std::make_unique<UcxWorker>(std::move(core), std::move(transports), std::move(address),
                                     event_fd);
}

}  // namespace latentd
