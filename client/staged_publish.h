// Publishing records that lie in the memory of the client's device: a copy in pinned memory of the
// host is what is sent, since the checksum that travels with it is the host's.
#ifndef LATENTD_CLIENT_STAGED_PUBLISH_H_
#define LATENTD_CLIENT_STAGED_PUBLISH_H_

#include <cstddef>
#include <memory>
#include <span>

#include "absl/status/statusor.h"
#include "client/chunk_operations.h"
#include "client/device.h"
#include "client/operation.h"
#include "client/query.h"
#include "routing/layout.h"

namespace latentd {

// As MakePublish, of records in the device's memory, copied once what `stream` has been given is
// done. RESOURCE_EXHAUSTED without memory for the copy.
absl::StatusOr<std::unique_ptr<Operation>> MakeStagedPublish(const ChunkRange& range,
                                                             std::span<const std::byte> records,
                                                             const Layout& layout,
                                                             ClientDevice& device,
                                                             CudaStream stream, DoneCallback done);

}  // namespace latentd

#endif  // LATENTD_CLIENT_STAGED_PUBLISH_H_
