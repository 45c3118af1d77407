// Which records of a chunk are meant. A value.
#ifndef LATENTD_DAEMON_STORE_RECORD_RANGE_H_
#define LATENTD_DAEMON_STORE_RECORD_RANGE_H_

#include <cstdint>

namespace latentd {

// Records [layers][tokens] of one chunk.
struct RecordRange {
  uint32_t first_layer = 0;
  uint32_t layers = 0;
  uint32_t first_token = 0;
  uint32_t tokens = 0;
};

}  // namespace latentd

#endif  // LATENTD_DAEMON_STORE_RECORD_RANGE_H_
