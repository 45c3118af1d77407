// What must hold for any bytes given to the parser; the fuzzer's body. See README.md for how to run
// it.
#ifndef LATENTD_TRANSPORT_WIRE_FUZZ_H_
#define LATENTD_TRANSPORT_WIRE_FUZZ_H_

#include <cstddef>
#include <cstdint>

// libFuzzer's entry point. Aborts if a property fails.
// NOLINTNEXTLINE(readability-identifier-naming)
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

#endif  // LATENTD_TRANSPORT_WIRE_FUZZ_H_
