// An Endpoint over a ucp_ep.
#ifndef LATENTD_TRANSPORT_UCX_ENDPOINT_H_
#define LATENTD_TRANSPORT_UCX_ENDPOINT_H_

#include <memory>
#include <span>
#include <string>
#include <utility>

#include "transport/ucx_core.h"
#include "transport/worker.h"

namespace latentd {

class UcxEndpoint : public Endpoint {
 public:
  explicit UcxEndpoint(std::shared_ptr<EndpointState> state) : state_(std::move(state)) {}
  ~UcxEndpoint() override;
  UcxEndpoint(const UcxEndpoint&) = delete;
  UcxEndpoint& operator=(const UcxEndpoint&) = delete;

  void Send(unsigned am_id, std::span<const std::byte> header, std::span<const std::byte> payload,
            SendCallback done) override;
  const absl::Status& status() const override { return state_->status; }
  std::string Transports() const override;

 private:
  const std::shared_ptr<EndpointState> state_;
};

}  // namespace latentd

#endif  // LATENTD_TRANSPORT_UCX_ENDPOINT_H_
