// Attention on the host's cores: vectorised with Highway for whatever the machine has, tiles of a
// batch spread over the lane's thread and a few helpers. See README.md for the arithmetic.
#ifndef LATENTD_KERNELS_CPU_CPU_BACKEND_H_
#define LATENTD_KERNELS_CPU_CPU_BACKEND_H_

#include <memory>
#include <vector>

#include "kernels/backend.h"
#include "kernels/mla.h"

namespace latentd {

struct CpuBackendOptions {
  Geometry geometry;
  RecordFormat format = RecordFormat::kBf16;
  CacheView cache;  // host memory; outlives the backend

  // Helper threads besides the lane's own. 0: everything runs inside Poll.
  int threads = 0;
  int max_in_flight = 4;
  // Helper i runs on cpus[i % cpus.size()]; empty: wherever the scheduler likes.
  std::vector<int> cpus;
  // How long an idle helper spins before it sleeps. Waking a sleeper costs the lane a system call,
  // a spinner costs a core.
  double spin_us = 20;
};

// REQUIRES: ValidateGeometry(options.geometry, options.format).ok(), threads >= 0, max_in_flight
// >= 1.
//
// The backend's destructor stops helpers after the tiles they are in; batches that were not
// returned are forgotten. Results do not depend on the number of threads, but do on the instruction
// set that Highway chose (Describe() names it).
std::unique_ptr<Backend> MakeCpuBackend(const CpuBackendOptions& options);

}  // namespace latentd

#endif  // LATENTD_KERNELS_CPU_CPU_BACKEND_H_
