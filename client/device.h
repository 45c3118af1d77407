// What a client does with memory of a CUDA device: queries whose rows and answers lie there are sent
// and received without the host's touching them, and merged on the device, in the order of the
// caller's stream.
//
// The client's thread only. Buffers of pool() go back to it before it is destroyed.
#ifndef LATENTD_CLIENT_DEVICE_H_
#define LATENTD_CLIENT_DEVICE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/exchange.h"
#include "client/fanout.h"
#include "client/query.h"
#include "kernels/mla.h"
#include "transport/payload_pool.h"

namespace latentd {

// A point in a stream.
class StreamMark {
 public:
  virtual ~StreamMark() = default;
  // Whether the device has come past it; INTERNAL with CUDA's words if the device has failed.
  virtual absl::StatusOr<bool> Reached() = 0;
  virtual void Wait() = 0;
};

class ClientDevice {
 public:
  // `name`: "cuda:N". INVALID_ARGUMENT for another; FAILED_PRECONDITION and INVALID_ARGUMENT as
  // CheckCudaDevice (kernels/cuda/devices.h) has them; RESOURCE_EXHAUSTED without memory for buffers.
  static absl::StatusOr<std::unique_ptr<ClientDevice>> Create(std::string_view name);
  virtual ~ClientDevice() = default;

  // Buffers of the device's memory, cut from slab().
  virtual PayloadPool& pool() = 0;
  virtual std::span<std::byte> slab() = 0;
  // Pinned memory of the host.
  virtual PayloadPool& pinned_pool() = 0;

  // Makes the device the calling thread's, where UCX's transports for its memory look for it.
  virtual void EnterThread() = 0;
  // INVALID_ARGUMENT naming `what` for memory that is neither the device's nor managed by it.
  virtual absl::Status Check(std::string_view what, const void* memory) = 0;

  // What the stream has been given so far.
  virtual absl::StatusOr<std::unique_ptr<StreamMark>> Mark(CudaStream stream) = 0;
  // Starts a copy in the stream; either may be memory of the device or pinned.
  virtual absl::Status Copy(void* to, const void* from, uint64_t bytes, CudaStream stream) = 0;
  // Copies within the device, done when it returns.
  virtual absl::Status CopyNow(void* to, const void* from, uint64_t bytes) = 0;
  // AssemblePartials (fanout.h) of partials in the device's memory, in the stream; keeps `answers`,
  // which they lie in, until that is done.
  virtual absl::Status Assemble(std::span<const MessagePartial> partials, const AttendQuery& query,
                                uint32_t tokens, uint32_t latent_width,
                                std::vector<ReplyPayload> answers) = 0;
};

}  // namespace latentd

#endif  // LATENTD_CLIENT_DEVICE_H_
