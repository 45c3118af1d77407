// The rotation of a whole chunk in place against copies of the same bytes by the same thread, in
// turns, medians. README.md has the figures.
//
//   bazel run --config=release //kernels/cpu:rotate_benchmark
//
// Bytes are those of rope values, 128 of a record's 1152 or 656, read once and written once. "copy"
// moves the same strided bytes to the same places of another chunk; "in place" reads and writes them
// where they are and changes nothing; both with the prefetches that the rotation has, so that they
// are the machine's and not a loop's. Every round takes another chunk: none is in a cache.

#include <sys/mman.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <numeric>
#include <random>
#include <vector>

#include "kernels/mla.h"
#include "kernels/records.h"
#include "kernels/rope.h"
#include "kernels/rotate.h"

namespace latentd {
namespace {

constexpr Geometry kGeometry{512, 64};
constexpr uint32_t kTokens = 2048;
constexpr uint32_t kLayers = 27;
constexpr uint32_t kPages = kTokens / kPageTokens;
constexpr uint32_t kChunks = 8;  // 57 MB of rope values, in 0.5 GB of records
constexpr uint32_t kRounds = 41;
constexpr uint64_t kRopeBytes = 128;
constexpr uint64_t kAheadRecords = 48;

// Chunks whose pages lie in any order, in large pages where the system has some.
class Arena {
 public:
  explicit Arena(RecordFormat format)
      : record_bytes(RecordBytes(kGeometry, format)),
        rope_offset(RopeOffset(kGeometry, format)),
        layer_bytes(kPageTokens * record_bytes),
        page_bytes(kLayers * layer_bytes),
        page_ids(kChunks * kPages) {
    constexpr size_t kLarge = size_t{2} << 20;
    const size_t bytes = (kChunks * kPages * page_bytes + kLarge - 1) / kLarge * kLarge;
    data = static_cast<std::byte*>(std::aligned_alloc(kLarge, bytes));
    madvise(data, bytes, MADV_HUGEPAGE);
    // 1.0 everywhere, as bf16: a finite value.
    for (size_t i = 0; i < bytes; i += 2) {
      data[i] = std::byte{0x80};
      data[i + 1] = std::byte{0x3f};
    }
    std::iota(page_ids.begin(), page_ids.end(), 0u);
    std::shuffle(page_ids.begin(), page_ids.end(), std::mt19937(1));
  }
  ~Arena() { std::free(data); }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  std::span<const uint32_t> Chunk(uint32_t chunk) const {
    return std::span(page_ids).subspan(chunk * kPages, kPages);
  }
  // visit(first rope part) for every run of records of a chunk.
  template <typename Visit>
  void ForEachRun(uint32_t chunk, const Visit& visit) const {
    for (const uint32_t page : Chunk(chunk)) {
      for (uint32_t layer = 0; layer < kLayers; ++layer) {
        visit(data + page * page_bytes + layer * layer_bytes + rope_offset);
      }
    }
  }

  const uint64_t record_bytes, rope_offset, layer_bytes, page_bytes;
  std::byte* data;

 private:
  std::vector<uint32_t> page_ids;
};

void Prefetch(const std::byte* part, bool write) {
  for (const uint64_t at : {uint64_t{0}, uint64_t{64}, kRopeBytes - 1}) {
    if (write) {
      __builtin_prefetch(part + at, 1, 3);
    } else {
      __builtin_prefetch(part + at, 0, 3);
    }
  }
}

void CopyParts(const Arena& from, uint32_t chunk, const Arena& to) {
  from.ForEachRun(chunk, [&](const std::byte* part) {
    std::byte* target = to.data + (part - from.data);
    for (uint32_t i = 0; i < kPageTokens; ++i) {
      const uint64_t at = i * from.record_bytes;
      Prefetch(part + at + kAheadRecords * from.record_bytes, false);
      Prefetch(target + at + kAheadRecords * from.record_bytes, true);
      std::memcpy(target + at, part + at, kRopeBytes);
    }
  });
}

void TouchParts(const Arena& arena, uint32_t chunk) {
  arena.ForEachRun(chunk, [&](std::byte* part) {
    for (uint32_t i = 0; i < kPageTokens; ++i, part += arena.record_bytes) {
      Prefetch(part + kAheadRecords * arena.record_bytes, true);
      uint64_t words[kRopeBytes / sizeof(uint64_t)];
      std::memcpy(words, part, kRopeBytes);
      asm volatile("" : "+m"(words));
      std::memcpy(part, words, kRopeBytes);
    }
  });
}

// A copy of as many consecutive bytes.
void CopyRun(const Arena& from, uint32_t chunk, const Arena& to) {
  const uint64_t at = chunk * kPages * from.page_bytes;
  std::memcpy(to.data + at, from.data + at, kRopeBytes * kTokens * kLayers);
}

double Median(std::vector<double> values) {
  std::nth_element(values.begin(), values.begin() + values.size() / 2, values.end());
  return values[values.size() / 2];
}

void RunCase(RecordFormat format, RopePairs pairs) {
  const Arena arena(format), other(format);
  const Rotation rotation = *Rope::Make({.pairs = pairs})->RotationBy(1234);
  const PageMemory memory{arena.data, arena.page_bytes, arena.layer_bytes};
  const std::vector<std::function<void(uint32_t)>> works = {
      [&](uint32_t chunk) {
        RotateChunk(kGeometry, format, rotation, memory, arena.Chunk(chunk), kLayers, kTokens);
      },
      [&](uint32_t chunk) { CopyParts(arena, chunk, other); },
      [&](uint32_t chunk) { TouchParts(arena, chunk); },
      [&](uint32_t chunk) { CopyRun(arena, chunk, other); },
  };
  std::vector<std::vector<double>> us(works.size());
  for (uint32_t round = 0; round < kRounds * kChunks; ++round) {
    for (size_t w = 0; w < works.size(); ++w) {
      // Each kind of work its own chunk, that none has touched for a while.
      const auto chunk = static_cast<uint32_t>((round + 2 * w) % kChunks);
      const auto begin = std::chrono::steady_clock::now();
      works[w](chunk);
      us[w].push_back(
          std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin)
              .count());
    }
  }
  std::vector<double> median;
  for (auto& times : us) median.push_back(Median(times));
  const double bytes = 2.0 * kRopeBytes * kTokens * kLayers;
  std::printf("%-5s %-12s %9.0f %7.2f %9.0f %7.2f %9.0f %7.2f %9.0f %7.2f\n",
              std::string(RecordFormatName(format)).c_str(),
              pairs == RopePairs::kInterleaved ? "interleaved" : "halves", median[0],
              bytes / median[0] / 1e3, median[1], median[1] / median[0], median[2],
              median[2] / median[0], median[3], median[3] / median[0]);
}

}  // namespace
}  // namespace latentd

int main() {
  std::printf("2048 tokens x 27 layers, one thread; ratio: the other's time to the rotation's\n");
  std::printf("%-18s %9s %7s %9s %7s %9s %7s %9s %7s\n", "records", "us", "GB/s", "copy us",
              "ratio", "in place", "ratio", "run us", "ratio");
  for (const auto format : {latentd::RecordFormat::kBf16, latentd::RecordFormat::kFp8}) {
    for (const auto pairs : {latentd::RopePairs::kInterleaved, latentd::RopePairs::kHalves}) {
      latentd::RunCase(format, pairs);
    }
  }
}
