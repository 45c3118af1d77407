// How many bytes the payloads of the data plane take. Pure; every product is checked for overflow.
#ifndef LATENTD_TRANSPORT_WIRE_SIZES_H_
#define LATENTD_TRANSPORT_WIRE_SIZES_H_

#include <cstdint>
#include <initializer_list>
#include <optional>

#include "kernels/mla.h"

namespace latentd {

// The product, or nothing if it does not fit 64 bits.
constexpr std::optional<uint64_t> CheckedProduct(std::initializer_list<uint64_t> factors) {
  uint64_t product = 1;
  for (const uint64_t factor : factors) {
    if (__builtin_mul_overflow(product, factor, &product)) return std::nullopt;
  }
  return product;
}

// ATTEND's request payload: rows [tokens][heads][row_width] bf16.
constexpr std::optional<uint64_t> AttendRowsBytes(uint64_t tokens, uint64_t heads,
                                                  const Geometry& geometry) {
  return CheckedProduct({tokens, heads, geometry.row_width(), sizeof(Bf16)});
}

// ATTEND's reply payload: out [tokens][heads][latent_width], then lse [tokens][heads] fp32.
constexpr std::optional<uint64_t> AttendReplyBytes(uint64_t tokens, uint64_t heads,
                                                   const Geometry& geometry, OutFormat format) {
  const uint64_t row =
      uint64_t{geometry.latent_width} * OutValueBytes(format) + uint64_t{sizeof(float)};
  return CheckedProduct({tokens, heads, row});
}

// Where lse starts in ATTEND's reply payload.
constexpr std::optional<uint64_t> AttendReplyLseOffset(uint64_t tokens, uint64_t heads,
                                                       const Geometry& geometry, OutFormat format) {
  return CheckedProduct({tokens, heads, geometry.latent_width, OutValueBytes(format)});
}

// PUBLISH's request payload and FETCH's reply payload: records [layers][tokens][record].
constexpr std::optional<uint64_t> RecordsBytes(uint64_t layers, uint64_t tokens,
                                               const Geometry& geometry, RecordFormat format) {
  return CheckedProduct({layers, tokens, RecordBytes(geometry, format)});
}

}  // namespace latentd

#endif  // LATENTD_TRANSPORT_WIRE_SIZES_H_
