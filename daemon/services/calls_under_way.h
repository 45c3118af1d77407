// `CallsUnderWay` counts the calls of latentd's own services that a gRPC server is answering, so
// that it can end as soon as there are none. Health watches and reflection do not count: they last
// as long as their client likes.
//
// Any thread.
#ifndef LATENTD_DAEMON_SERVICES_CALLS_UNDER_WAY_H_
#define LATENTD_DAEMON_SERVICES_CALLS_UNDER_WAY_H_

#include <grpcpp/support/server_interceptor.h>

#include <memory>

#include "absl/time/time.h"

namespace latentd {

class CallsUnderWay {
 public:
  CallsUnderWay();

  // For the server's builder. Calls may outlive this object, the count does too.
  std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface> MakeInterceptorFactory();

  // Until there are none, or `deadline`. Whether there are none.
  bool AwaitNone(absl::Time deadline);

 private:
  struct Count;

  const std::shared_ptr<Count> count_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_SERVICES_CALLS_UNDER_WAY_H_
