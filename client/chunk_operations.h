// The calls about chunks: publish, fetch, seal, pin, release, stat; and echo, which measures the
// wire to a holder.
#ifndef LATENTD_CLIENT_CHUNK_OPERATIONS_H_
#define LATENTD_CLIENT_CHUNK_OPERATIONS_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/operation.h"
#include "client/query.h"
#include "routing/layout.h"

namespace latentd {

using DoneCallback = std::function<void(absl::Status)>;
using StatCallback = std::function<void(absl::StatusOr<std::vector<ChunkStat>>)>;
using EchoCallback = std::function<void(absl::StatusOr<HolderTiming>)>;

// Each returns INVALID_ARGUMENT or OUT_OF_RANGE where the arguments cannot be right.
absl::StatusOr<std::unique_ptr<Operation>> MakePublish(const ChunkRange& range,
                                                       std::span<const std::byte> records,
                                                       const Layout& layout, DoneCallback done);
absl::StatusOr<std::unique_ptr<Operation>> MakeFetch(const ChunkRange& range,
                                                     std::span<std::byte> records,
                                                     const Layout& layout, DoneCallback done);
absl::StatusOr<std::unique_ptr<Operation>> MakeSeal(const ChunkId& chunk, uint32_t tokens,
                                                    uint64_t checksum, DoneCallback done);
absl::StatusOr<std::unique_ptr<Operation>> MakePin(std::span<const ChunkId> chunks,
                                                   absl::Duration lease, DoneCallback done);
absl::StatusOr<std::unique_ptr<Operation>> MakeRelease(std::span<const ChunkId> chunks,
                                                       DoneCallback done);
// Entries come in the order of the ids.
absl::StatusOr<std::unique_ptr<Operation>> MakeStat(std::span<const ChunkId> chunks,
                                                    StatCallback done);

absl::StatusOr<std::unique_ptr<Operation>> MakeEcho(const Holder& holder,
                                                    std::span<const std::byte> payload,
                                                    uint64_t reply_bytes, EchoCallback done);

// An operation that has failed before it began.
std::unique_ptr<Operation> MakeFailed(absl::Status status, DoneCallback done);

}  // namespace latentd

#endif  // LATENTD_CLIENT_CHUNK_OPERATIONS_H_
