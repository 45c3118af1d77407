#include "tools/admin_calls.h"

#include <chrono>
#include <utility>

#include "client/channel.h"
#include "client/endpoint.h"
#include "proto/latentd/v1/admin.grpc.pb.h"
#include "proto/latentd/v1/cluster.grpc.pb.h"

namespace latentd {
namespace {

class GrpcAdminCalls final : public AdminCalls {
 public:
  GrpcAdminCalls(std::string endpoint, const std::shared_ptr<grpc::Channel>& channel,
                 absl::Duration timeout)
      : endpoint_(std::move(endpoint)),
        timeout_(timeout),
        admin_(v1::Admin::NewStub(channel)),
        cluster_(v1::Cluster::NewStub(channel)) {}

  absl::StatusOr<v1::StatusResponse> Status() override {
    return Call<v1::StatusResponse>(*admin_, &v1::Admin::Stub::Status, v1::StatusRequest());
  }
  absl::StatusOr<v1::ListNodesResponse> ListNodes() override {
    return Call<v1::ListNodesResponse>(*cluster_, &v1::Cluster::Stub::ListNodes,
                                       v1::ListNodesRequest());
  }
  absl::StatusOr<v1::RoutingTable> GetTable() override {
    return Call<v1::RoutingTable>(*cluster_, &v1::Cluster::Stub::GetTable, v1::GetTableRequest());
  }
  absl::StatusOr<v1::GetCostsResponse> GetCosts() override {
    return Call<v1::GetCostsResponse>(*cluster_, &v1::Cluster::Stub::GetCosts,
                                      v1::GetCostsRequest());
  }
  absl::StatusOr<v1::ChunksResponse> Chunks(uint32_t limit, const std::string& prefix) override {
    v1::ChunksRequest request;
    request.set_limit(limit);
    request.set_prefix(prefix);
    return Call<v1::ChunksResponse>(*admin_, &v1::Admin::Stub::Chunks, request);
  }
  absl::StatusOr<v1::DrainResponse> Drain() override {
    return Call<v1::DrainResponse>(*admin_, &v1::Admin::Stub::Drain, v1::DrainRequest());
  }
  absl::StatusOr<v1::ResumeResponse> Resume() override {
    return Call<v1::ResumeResponse>(*admin_, &v1::Admin::Stub::Resume, v1::ResumeRequest());
  }
  absl::StatusOr<v1::CostsResponse> Costs() override {
    return Call<v1::CostsResponse>(*admin_, &v1::Admin::Stub::Costs, v1::CostsRequest());
  }
  absl::StatusOr<v1::CalibrateResponse> Calibrate(bool compute, bool links,
                                                  absl::Duration limit) override {
    v1::CalibrateRequest request;
    request.set_compute(compute);
    request.set_links(links);
    return Call<v1::CalibrateResponse>(*admin_, &v1::Admin::Stub::Calibrate, request, limit);
  }

 private:
  template <typename Response, typename Stub, typename Method, typename Request>
  absl::StatusOr<Response> Call(Stub& stub, Method method, const Request& request) {
    return Call<Response>(stub, method, request, timeout_);
  }
  template <typename Response, typename Stub, typename Method, typename Request>
  absl::StatusOr<Response> Call(Stub& stub, Method method, const Request& request,
                                absl::Duration limit) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(limit));
    Response response;
    const grpc::Status status = (stub.*method)(&context, request, &response);
    if (!status.ok()) return FromGrpcStatus(status, endpoint_);
    return response;
  }

  const std::string endpoint_;
  const absl::Duration timeout_;
  const std::unique_ptr<v1::Admin::Stub> admin_;
  const std::unique_ptr<v1::Cluster::Stub> cluster_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<AdminCalls>> AdminCalls::Create(const std::string& endpoint,
                                                               const TlsFiles& tls,
                                                               absl::Duration timeout) {
  if (absl::Status s = CheckEndpoint(endpoint); !s.ok()) return s;
  const auto credentials = MakeCredentials(tls);
  if (!credentials.ok()) return credentials.status();
  return std::make_unique<GrpcAdminCalls>(endpoint, MakeChannel(endpoint, *credentials), timeout);
}

}  // namespace latentd
