// What this machine can do at most, measured: the yardstick for the benchmark's ratios.
//
// Each call takes some tens of milliseconds per thread. Any thread, one at a time.
#ifndef LATENTD_KERNELS_CPU_MACHINE_PEAKS_H_
#define LATENTD_KERNELS_CPU_MACHINE_PEAKS_H_

#include <cstddef>
#include <span>

namespace latentd {

// fp32 multiply-adds per second of `threads` threads together, out of registers, with the
// instruction set that the kernels use. By processor time: a busy machine has the same peak as an
// idle one.
double MeasurePeakMultiplyAdds(int threads);

// Bytes per second that `threads` threads together read from `buffer`, each its own part of it. For
// the memory's bandwidth the buffer has to be much larger than the last-level cache.
double MeasureReadBandwidth(std::span<const std::byte> buffer, int threads);

}  // namespace latentd

#endif  // LATENTD_KERNELS_CPU_MACHINE_PEAKS_H_
