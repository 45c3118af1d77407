// How benchmarks on a device time: launches captured in a CUDA graph, replayed, the median. Errors
// end the program.
#ifndef LATENTD_KERNELS_CUDA_GRAPH_TIMER_H_
#define LATENTD_KERNELS_CUDA_GRAPH_TIMER_H_

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "absl/status/status.h"

namespace latentd {

inline void Check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(error));
  std::exit(1);
}
inline void Check(const absl::Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.ToString().c_str());
  std::exit(1);
}

// Microseconds of one of `launches` in a graph; launch(i) enqueues the i-th of them.
template <typename Launch>
double TimeGraph(cudaStream_t stream, int launches, int replays, const Launch& launch) {
  cudaGraph_t graph;
  cudaGraphExec_t executable;
  Check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "capture");
  for (int i = 0; i < launches; ++i) launch(i);
  Check(cudaStreamEndCapture(stream, &graph), "end of capture");
  Check(cudaGraphInstantiate(&executable, graph, 0), "cudaGraphInstantiate");
  cudaEvent_t start;
  cudaEvent_t end;
  Check(cudaEventCreate(&start), "event");
  Check(cudaEventCreate(&end), "event");
  std::vector<float> times;
  for (int i = 0; i < replays + 3; ++i) {
    Check(cudaEventRecord(start, stream), "record");
    Check(cudaGraphLaunch(executable, stream), "cudaGraphLaunch");
    Check(cudaEventRecord(end, stream), "record");
    Check(cudaEventSynchronize(end), "a graph of launches");
    float milliseconds = 0;
    Check(cudaEventElapsedTime(&milliseconds, start, end), "elapsed");
    if (i >= 3) times.push_back(milliseconds);
  }
  cudaEventDestroy(start);
  cudaEventDestroy(end);
  cudaGraphExecDestroy(executable);
  cudaGraphDestroy(graph);
  std::sort(times.begin(), times.end());
  return 1e3 * static_cast<double>(times[times.size() / 2]) / launches;
}

}  // namespace latentd

#endif  // LATENTD_KERNELS_CUDA_GRAPH_TIMER_H_
