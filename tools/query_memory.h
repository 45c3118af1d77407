// Where a bench keeps the rows and answers of its queries: memory of the host, or of a CUDA device,
// whose stream it then has too. One thread.
#ifndef LATENTD_TOOLS_QUERY_MEMORY_H_
#define LATENTD_TOOLS_QUERY_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/query.h"

namespace latentd {

class QueryMemory {
 public:
  // `device`: "cuda:N", or empty for the host. Errors as ClientDevice::Create.
  static absl::StatusOr<std::unique_ptr<QueryMemory>> Create(const std::string& device);
  virtual ~QueryMemory() = default;

  virtual bool on_device() const = 0;
  virtual CudaStream stream() const = 0;
  // Aligned for any value, and there as long as this is.
  virtual absl::StatusOr<std::span<std::byte>> Allocate(uint64_t bytes) = 0;
  // Between here and the host's memory; done when they return.
  virtual absl::Status Write(std::span<std::byte> to, const void* from) = 0;
  virtual absl::Status Read(std::span<const std::byte> from, void* to) = 0;
  // Waits for what the stream has been given: answers are there then.
  virtual absl::Status Finish() = 0;
};

// A query's rows and answer in such memory.
struct QueryBuffers {
  static absl::StatusOr<QueryBuffers> Create(QueryMemory& memory, uint64_t rows,
                                             const Geometry& geometry, OutFormat format);

  // Of the first `rows` of them, for AttendQuery.
  void Fill(const QueryMemory& memory, uint64_t count, AttendQuery* query) const;

  std::span<std::byte> rows;
  std::span<std::byte> out;
  std::span<std::byte> lse;
  uint64_t row_bytes = 0;
  uint64_t out_bytes = 0;  // of one row
};

}  // namespace latentd

#endif  // LATENTD_TOOLS_QUERY_MEMORY_H_
