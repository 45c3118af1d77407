// The oracle: attention of mla.h in fp64, one row and one record after the other, written to be
// read. Every backend is tested against it, and clients may use it to check an answer.
//
// Pure functions: any thread.
#ifndef LATENTD_KERNELS_REFERENCE_REFERENCE_H_
#define LATENTD_KERNELS_REFERENCE_REFERENCE_H_

#include <vector>

#include "kernels/mla.h"

namespace latentd {

// A problem's partials in fp64.
struct ReferencePartials {
  std::vector<double> out;  // [tokens][heads][latent_width]
  std::vector<double> lse;  // [tokens][heads]; -inf where nothing is attended
};

// Computes `problem` over `cache`; its out and lse pointers are not used. REQUIRES: a valid problem
// (validate.h).
ReferencePartials ReferenceAttendFp64(const Geometry& geometry, RecordFormat format,
                                      const CacheView& cache, const Problem& problem);

// The same, rounded once into problem.out (of problem.out_format) and problem.lse.
void ReferenceAttend(const Geometry& geometry, RecordFormat format, const CacheView& cache,
                     const Problem& problem);

}  // namespace latentd

#endif  // LATENTD_KERNELS_REFERENCE_REFERENCE_H_
