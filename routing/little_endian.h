// Appending integers to a byte string in little-endian order, for what is hashed: the result is the
// same on every machine. Pure; any thread.
#ifndef LATENTD_ROUTING_LITTLE_ENDIAN_H_
#define LATENTD_ROUTING_LITTLE_ENDIAN_H_

#include <concepts>
#include <cstddef>
#include <string>

namespace latentd {

template <std::unsigned_integral T>
void AppendLittleEndian(T value, std::string& out) {
  for (size_t i = 0; i < sizeof(T); ++i) out.push_back(static_cast<char>(value >> (8 * i)));
}

}  // namespace latentd

#endif  // LATENTD_ROUTING_LITTLE_ENDIAN_H_
