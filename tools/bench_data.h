// Random data for measurements: values as they occur in models' caches, in the cluster's format.
// One thread.
#ifndef LATENTD_TOOLS_BENCH_DATA_H_
#define LATENTD_TOOLS_BENCH_DATA_H_

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "kernels/mla.h"
#include "routing/layout.h"

namespace latentd {

// Normally distributed.
std::vector<Bf16> RandomBf16(std::mt19937_64& random, size_t count);
// Records of `count` tokens of one layer.
std::vector<std::byte> RandomRecords(std::mt19937_64& random, const Layout& layout, uint64_t count);

}  // namespace latentd

#endif  // LATENTD_TOOLS_BENCH_DATA_H_
