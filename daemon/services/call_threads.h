// `CallThreads` runs gRPC calls that block (on lanes, on the membership), each on a thread of its
// own and so many at a time: gRPC's callback threads are two, and serve everybody.
//
// Any thread. Its end waits for the calls that run.
#ifndef LATENTD_DAEMON_SERVICES_CALL_THREADS_H_
#define LATENTD_DAEMON_SERVICES_CALL_THREADS_H_

#include <grpcpp/grpcpp.h>

#include <cstddef>
#include <functional>
#include <memory>

namespace latentd {

// The reactor of a call that is answered at once.
inline grpc::ServerUnaryReactor* Answer(grpc::CallbackServerContext* context,
                                        const grpc::Status& status) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(status);
  return reactor;
}

class CallThreads {
 public:
  explicit CallThreads(size_t max_calls);
  ~CallThreads();
  CallThreads(const CallThreads&) = delete;
  CallThreads& operator=(const CallThreads&) = delete;

  // The reactor of the call that `call` answers. RESOURCE_EXHAUSTED: too many run already.
  grpc::ServerUnaryReactor* Run(grpc::CallbackServerContext* context,
                                std::function<grpc::Status()> call);

 private:
  struct Count;

  const size_t max_calls_;
  const std::shared_ptr<Count> count_;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_SERVICES_CALL_THREADS_H_
