// The insides of an IncomingMessage.
#ifndef LATENTD_TRANSPORT_UCX_MESSAGE_H_
#define LATENTD_TRANSPORT_UCX_MESSAGE_H_

#include <cstddef>
#include <cstdint>

#include "absl/container/inlined_vector.h"
#include "transport/ucx_core.h"
#include "transport/worker.h"

namespace latentd {

struct IncomingMessage::Impl {
  // While the handler runs: UCX's callback learns from here that the data went away before it
  // returned.
  struct HandlerScope {
    bool destroyed = false;      // the message
    bool data_released = false;  // not consumed before that: UCX takes it back
  };

  ~Impl();

  UcxCore* core = nullptr;
  absl::InlinedVector<std::byte, 512> header;
  uint64_t payload_bytes = 0;
  bool eager = true;
  uint64_t sender = 0;

  // UCX's descriptor: the bytes themselves (eager) or a promise of them. Null when there is none or
  // it was consumed.
  void* data = nullptr;
  ucp_ep_h reply_ep = nullptr;  // valid only while `scope` is set
  HandlerScope* scope = nullptr;

  Impl* previous = nullptr;
  Impl* next = nullptr;
};

}  // namespace latentd

#endif  // LATENTD_TRANSPORT_UCX_MESSAGE_H_
