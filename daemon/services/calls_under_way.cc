#include "daemon/services/calls_under_way.h"

#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <string_view>
#include <utility>

namespace latentd {

struct CallsUnderWay::Count {
  std::mutex mutex;
  std::condition_variable none;
  uint64_t calls = 0;
};

namespace {

using grpc::experimental::Interceptor;

// Lives as long as its call.
template <typename Count>
class CallCounter : public Interceptor {
 public:
  explicit CallCounter(std::shared_ptr<Count> count) : count_(std::move(count)) {
    const std::lock_guard<std::mutex> lock(count_->mutex);
    ++count_->calls;
  }
  ~CallCounter() override {
    const std::lock_guard<std::mutex> lock(count_->mutex);
    if (--count_->calls == 0) count_->none.notify_all();
  }

  void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override {
    methods->Proceed();
  }

 private:
  const std::shared_ptr<Count> count_;
};

template <typename Count>
class CallCounterFactory : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  explicit CallCounterFactory(std::shared_ptr<Count> count) : count_(std::move(count)) {}

  Interceptor* CreateServerInterceptor(grpc::experimental::ServerRpcInfo* info) override {
    const std::string_view method = info->method() == nullptr ? "" : info->method();
    if (method.rfind("/latentd.", 0) != 0) return nullptr;
    return new CallCounter<Count>(count_);
  }

 private:
  const std::shared_ptr<Count> count_;
};

}  // namespace

CallsUnderWay::CallsUnderWay() : count_(std::make_shared<Count>()) {}

std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>
CallsUnderWay::MakeInterceptorFactory() {
  return std::make_unique<CallCounterFactory<Count>>(count_);
}

bool CallsUnderWay::AwaitNone(absl::Time deadline) {
  std::unique_lock<std::mutex> lock(count_->mutex);
  return count_->none.wait_until(lock, absl::ToChronoTime(deadline),
                                 [&] { return count_->calls == 0; });
}

}  // namespace latentd
