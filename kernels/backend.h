// What a lane asks of the hardware that computes attention. One implementation per kind of device:
// `cpu/`, `cuda/`.
#ifndef LATENTD_KERNELS_BACKEND_H_
#define LATENTD_KERNELS_BACKEND_H_

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "kernels/mla.h"

namespace latentd {

struct BatchResult {
  uint64_t batch_id = 0;
  // One per problem, in the order submitted. Not ok when a row's logits left the range of fp32 (the
  // message names the row); that problem's outputs are then unspecified, the batch's other problems
  // are unharmed. INTERNAL: the device has failed, for good.
  std::vector<absl::Status> statuses;
  // From the start of the batch's first tile, or of its launch on a device, to the end of its last.
  uint64_t compute_ns = 0;
};

// `Backend` computes batches of problems over one store's records. Problems of a batch that attend
// the same (chunk, layer) share one pass over its records.
//
// Lane thread only; it may use threads of its own inside. Batches complete in any order. Everything
// that a submitted problem points to must stay valid and unchanged until its batch is returned by
// Poll.
class Backend {
 public:
  virtual ~Backend() = default;

  // For logs and status: "cpu (AVX3_ZEN4, 2 threads)".
  virtual std::string Describe() const = 0;

  // Starts a batch and returns at once. REQUIRES: every problem satisfies the rules of mla.h and
  // in_flight() is below max_in_flight().
  //
  // The same batch gives the same bits, on the same build and kind of device: nothing depends on
  // timing. Whatever a problem is batched with, each of its rows is within the backend's error
  // bounds; bits may differ between batches where a backend cuts its work by the batch, as cuda/
  // does. On cpu/ a problem has the same bits in any batch and on any number of threads.
  virtual void Submit(uint64_t batch_id, std::span<const Problem> problems) = 0;

  // Appends finished batches to `done`. May do a bounded piece of the outstanding work (about 100
  // us at most) on the calling thread. Returns true if anything was done or finished.
  virtual bool Poll(std::vector<BatchResult>& done) = 0;

  // Nobody reads the outputs of this batch any more: ends it early, where the device can. Best
  // effort: Poll returns the batch all the same, sooner at best, with statuses and outputs that mean
  // nothing, but that INTERNAL still does. A batch that is not in flight is ignored.
  virtual void Cancel([[maybe_unused]] uint64_t batch_id) {}

  virtual int in_flight() const = 0;
  virtual int max_in_flight() const = 0;
};

}  // namespace latentd

#endif  // LATENTD_KERNELS_BACKEND_H_
