#include "daemon/store/store_test_util.h"
#include "kernels/cuda/records_memory.h"

namespace latentd {

AllocateRecordMemory TestMemory() {
  return [](uint64_t bytes) { return MakeCudaRecordMemory(0, bytes); };
}

}  // namespace latentd
