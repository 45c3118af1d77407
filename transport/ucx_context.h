// The UCX context and the memory registered with it. Thread-safe; see worker.h.
#ifndef LATENTD_TRANSPORT_UCX_CONTEXT_H_
#define LATENTD_TRANSPORT_UCX_CONTEXT_H_

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "transport/ucx_config.h"
#include "transport/worker.h"
#include "ucp/api/ucp.h"

namespace latentd {

struct RegisteredRange {
  uintptr_t begin = 0;
  uintptr_t end = 0;
  ucp_mem_h memh = nullptr;
  ucs_memory_type_t type = UCS_MEMORY_TYPE_HOST;
};

class UcxContext : public Context, public std::enable_shared_from_this<UcxContext> {
 public:
  UcxContext(ucp_context_h handle, bool cuda, std::vector<std::string> transports,
             size_t safe_header_bytes)
      : handle_(handle),
        safe_header_bytes_(safe_header_bytes),
        cuda_(cuda),
        transports_(std::move(transports)),
        shared_memory_(UsesSharedMemory(transports_)) {}
  ~UcxContext() override;
  UcxContext(const UcxContext&) = delete;
  UcxContext& operator=(const UcxContext&) = delete;

  absl::StatusOr<std::shared_ptr<void>> RegisterMemory(void* base, size_t bytes) override;
  bool reports_peer_failure() const override { return true; }
  bool receives_after_peer_death() const override { return !shared_memory_; }

  ucp_context_h handle() const { return handle_; }
  bool cuda() const { return cuda_; }
  const std::vector<std::string>& transports() const { return transports_; }
  size_t safe_header_bytes() const { return safe_header_bytes_; }

  // Changes whenever a range comes or goes: workers keep a copy of the ranges and look here,
  // without a lock, whether it is still good.
  uint64_t ranges_version() const { return ranges_version_.load(std::memory_order_acquire); }
  std::vector<RegisteredRange> ranges() const;

 private:
  void Unregister(ucp_mem_h memh);

  const ucp_context_h handle_;
  const size_t safe_header_bytes_;
  const bool cuda_;
  const std::vector<std::string> transports_;
  const bool shared_memory_;
  std::atomic<uint64_t> ranges_version_{0};
  mutable std::mutex mutex_;
  std::vector<RegisteredRange> ranges_;  // guarded by mutex_
};

}  // namespace latentd

#endif  // LATENTD_TRANSPORT_UCX_CONTEXT_H_
