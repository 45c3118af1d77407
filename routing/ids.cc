#include "routing/ids.h"

#include "absl/strings/str_format.h"

namespace latentd {

std::string ToString(const ChunkId& id) { return absl::StrFormat("%016x%016x", id.hi, id.lo); }

}  // namespace latentd
