#include "daemon/store/host_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace latentd {
namespace {

constexpr size_t kHugePageBytes = size_t{2} << 20;
// Below this a huge page would waste a good part of the cache.
constexpr size_t kHugePagesFrom = 32 * kHugePageBytes;

std::byte* AlignUp(std::byte* address, size_t alignment) {
  const auto value = reinterpret_cast<uintptr_t>(address);
  return address + (alignment - value % alignment) % alignment;
}

class HostMemory : public RecordMemory {
 public:
  HostMemory(std::byte* mapping, size_t mapping_bytes, std::byte* base, uint64_t bytes)
      : mapping_(mapping), mapping_bytes_(mapping_bytes), base_(base), bytes_(bytes) {}
  ~HostMemory() override { munmap(mapping_, mapping_bytes_); }

  std::byte* base() const override { return base_; }
  uint64_t bytes() const override { return bytes_; }
  bool on_host() const override { return true; }

  absl::Status Write(std::span<const RecordRun> runs, const std::byte* from) override {
    for (const RecordRun& run : runs) {
      std::memcpy(base_ + run.memory_offset, from + run.host_offset, run.bytes);
    }
    return absl::OkStatus();
  }

  absl::Status Read(std::span<const RecordRun> runs, std::byte* to) override {
    for (const RecordRun& run : runs) {
      std::memcpy(to + run.host_offset, base_ + run.memory_offset, run.bytes);
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::optional<uint64_t>> FirstDifference(std::span<const RecordRun> runs,
                                                          const std::byte* from) override {
    for (const RecordRun& run : runs) {
      const std::byte* expected = from + run.host_offset;
      const std::byte* here = base_ + run.memory_offset;
      if (std::memcmp(expected, here, run.bytes) == 0) continue;
      const auto at = std::mismatch(expected, expected + run.bytes, here).first;
      return static_cast<uint64_t>(at - from);
    }
    return std::nullopt;
  }

 private:
  std::byte* const mapping_;
  const size_t mapping_bytes_;
  std::byte* const base_;
  const uint64_t bytes_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<RecordMemory>> MakeHostMemory(uint64_t bytes) {
  const bool huge = bytes >= kHugePagesFrom;
  const size_t mapping_bytes = bytes + (huge ? kHugePageBytes : 0);
  // NORESERVE: nothing is committed or touched here, which is what makes start-up instant.
  void* mapping = mmap(nullptr, mapping_bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapping == MAP_FAILED) {
    return absl::ResourceExhaustedError(
        absl::StrCat("cannot reserve ", mapping_bytes, " bytes for the cache: ", strerror(errno)));
  }
  auto* start = static_cast<std::byte*>(mapping);
  std::byte* base = huge ? AlignUp(start, kHugePageBytes) : start;
  // Attention streams through pages: huge ones save most of its TLB misses. Advice only; a kernel
  // without them is fine.
  if (huge) madvise(base, bytes, MADV_HUGEPAGE);
  // A core dump of the whole cache helps nobody.
  madvise(base, bytes, MADV_DONTDUMP);
  return std::make_unique<HostMemory>(start, mapping_bytes, base, bytes);
}

}  // namespace latentd
