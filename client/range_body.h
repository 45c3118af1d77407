// A range of records as messages name it. Pure; any thread.
#ifndef LATENTD_CLIENT_RANGE_BODY_H_
#define LATENTD_CLIENT_RANGE_BODY_H_

#include "client/query.h"
#include "transport/wire.h"

namespace latentd {

inline wire::RangeBody BodyOf(const ChunkRange& range) {
  return {.chunk_hi = range.chunk.hi,
          .chunk_lo = range.chunk.lo,
          .first_layer = range.first_layer,
          .layers = range.layers,
          .first_token = range.first_token,
          .tokens = range.tokens};
}

}  // namespace latentd

#endif  // LATENTD_CLIENT_RANGE_BODY_H_
