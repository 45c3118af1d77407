// Attention over chunks on any number of holders: the query's pieces out, partials back, merged
// once at the end.
#ifndef LATENTD_CLIENT_ATTEND_OPERATION_H_
#define LATENTD_CLIENT_ATTEND_OPERATION_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "client/chunk_cache.h"
#include "client/device.h"
#include "client/fanout.h"
#include "client/operation.h"
#include "client/query.h"
#include "routing/layout.h"

namespace latentd {

using AttendCallback = std::function<void(absl::StatusOr<AttendAnswer>)>;

// INVALID_ARGUMENT naming what is wrong with the query: heads, groups, scale, or a buffer's size or
// memory; OUT_OF_RANGE: the layer, or a shift beyond the model's positions; FAILED_PRECONDITION: a
// shift and a layout without rope, or use_cache on a device. `device` and `cache` are the client's,
// null if it has none.
absl::StatusOr<std::unique_ptr<Operation>> MakeAttendOperation(const AttendQuery& query,
                                                               const Layout& layout,
                                                               ClientDevice* device,
                                                               ChunkCache* cache,
                                                               AttendCallback done);

}  // namespace latentd

#endif  // LATENTD_CLIENT_ATTEND_OPERATION_H_
