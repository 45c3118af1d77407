// Memory of a device for records, and the kernels that move, convert and check them, against the
// host's own. Needs a GPU of compute capability 9.0: run by tests/gpu/run.sh, not by `bazel test`.
#include <cuda_runtime.h>

#include <catch2/catch.hpp>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/bf16.h"
#include "kernels/cuda/backend.h"
#include "kernels/cuda/memory.h"
#include "kernels/cuda/records.h"
#include "kernels/cuda/records_memory.h"
#include "kernels/quantize.h"
#include "kernels/records.h"

namespace latentd {
namespace {

constexpr Geometry kUsual{512, 64};
constexpr uint64_t kMiB = uint64_t{1} << 20;

std::vector<std::byte> RandomBytes(uint64_t count, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::byte> bytes(count);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  return bytes;
}

// Finite bf16 of every size, subnormals and zeros of both signs among them.
std::vector<std::byte> AnyFiniteBf16(uint64_t values, uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<std::byte> bytes(values * sizeof(Bf16));
  uint16_t centre = 0;
  for (uint64_t i = 0; i < values; ++i) {
    // Exponents near each other within a run of values, so that scaling matters.
    if (i % 64 == 0) centre = static_cast<uint16_t>(random() % 0xff);
    const int exponent = std::clamp<int>(centre - static_cast<int>(random() % 20), 0, 0xfe);
    auto bits = static_cast<uint16_t>((random() & 0x807f) | exponent << 7);
    if (random() % 16 == 0) bits &= 0x8000;
    std::memcpy(bytes.data() + i * sizeof(bits), &bits, sizeof(bits));
  }
  return bytes;
}

class OnDevice {
 public:
  explicit OnDevice(const std::vector<std::byte>& bytes) : bytes_(bytes.size()) {
    REQUIRE(memory_.Grow(bytes_).ok());
    REQUIRE(cudaMemcpy(memory_.data(), bytes.data(), bytes_, cudaMemcpyHostToDevice) ==
            cudaSuccess);
  }
  std::byte* data() { return memory_.data(); }
  std::vector<std::byte> Get() {
    std::vector<std::byte> bytes(bytes_);
    REQUIRE(cudaMemcpy(bytes.data(), memory_.data(), bytes_, cudaMemcpyDeviceToHost) ==
            cudaSuccess);
    return bytes;
  }

 private:
  DeviceMemory memory_;
  uint64_t bytes_;
};

TEST_CASE("the device quantises records to the bits that the host makes of them") {
  const uint32_t count = GENERATE(1u, 3u, 1000u);
  const auto bf16 = AnyFiniteBf16(uint64_t{count} * kUsual.row_width(), count);
  const uint64_t fp8_bytes = count * RecordBytes(kUsual, RecordFormat::kFp8);
  std::vector<std::byte> expected(fp8_bytes);
  QuantizeRecords(kUsual, bf16.data(), count, expected.data());
  OnDevice from(bf16), to(std::vector<std::byte>(fp8_bytes, std::byte{0xff}));
  REQUIRE(LaunchQuantizeRecords(kUsual, from.data(), count, to.data(), nullptr) == cudaSuccess);
  CHECK(to.Get() == expected);
}

uint32_t FirstOnDevice(RecordFormat format, const std::vector<std::byte>& records, uint32_t count) {
  OnDevice device(records);
  OnDevice first(std::vector<std::byte>(sizeof(uint32_t), std::byte{0xff}));
  REQUIRE(LaunchFindNonFinite(kUsual, format, device.data(), count,
                              reinterpret_cast<uint32_t*>(first.data()), nullptr) == cudaSuccess);
  uint32_t found;
  std::memcpy(&found, first.Get().data(), sizeof(found));
  return found;
}

TEST_CASE("the device finds the record that the host finds not to be finite") {
  constexpr uint32_t kCount = 300;
  auto records = AnyFiniteBf16(uint64_t{kCount} * kUsual.row_width(), 5);
  const auto format = GENERATE(RecordFormat::kBf16, RecordFormat::kFp8);
  if (format == RecordFormat::kFp8) {
    std::vector<std::byte> fp8(kCount * RecordBytes(kUsual, format));
    QuantizeRecords(kUsual, records.data(), kCount, fp8.data());
    records = fp8;
  }
  REQUIRE_FALSE(FirstNonFiniteRecord(kUsual, format, records.data(), kCount).has_value());
  CHECK(FirstOnDevice(format, records, kCount) == kAllFinite);

  // One byte after the other set to all ones or to an exponent's: what that means is the host's to
  // say.
  std::mt19937_64 random(9);
  for (int round = 0; round < 40; ++round) {
    auto bad = records;
    for (int i = 0; i < 1 + round % 3; ++i) {
      const uint64_t at = random() % (bad.size() / 2) * 2;
      bad[at] = std::byte{0x80};
      bad[at + 1] = random() % 2 == 0 ? std::byte{0x7f} : std::byte{0xff};
    }
    const auto expected = FirstNonFiniteRecord(kUsual, format, bad.data(), kCount);
    CHECK(FirstOnDevice(format, bad, kCount) == expected.value_or(kAllFinite));
  }
}

// Runs of `record_bytes` scattered over `memory_bytes`, in random order, and where they come from.
std::vector<RecordRun> ScatteredRuns(uint64_t memory_bytes, uint64_t record_bytes, uint32_t count,
                                     uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<uint64_t> places(memory_bytes / record_bytes);
  for (uint64_t i = 0; i < places.size(); ++i) places[i] = i * record_bytes;
  std::shuffle(places.begin(), places.end(), random);
  std::vector<RecordRun> runs;
  for (uint32_t i = 0; i < count; ++i) {
    runs.push_back({.memory_offset = places[i],
                    .host_offset = i * record_bytes,
                    .bytes = i % 2 == 0 ? record_bytes : record_bytes / 2});
  }
  return runs;
}

TEST_CASE("memory of a device keeps scattered runs, touches nothing else, and gives them back") {
  struct Case {
    uint64_t run_bytes;
    uint32_t runs;
  };
  // One record, a page of a layer, odd widths, more runs than one launch takes, more bytes.
  const auto [run_bytes, count] =
      GENERATE(Case{1152, 61}, Case{656, 5}, Case{73728, 61}, Case{20, 100}, Case{2, 1},
               Case{48, 9000}, Case{9 * kMiB + 4, 3});
  const uint64_t memory_bytes = std::max<uint64_t>(run_bytes * (count + 7), kMiB);
  auto memory = MakeCudaRecordMemory(0, memory_bytes);
  INFO(memory.status().ToString());
  REQUIRE(memory.ok());
  REQUIRE(cudaMemset((*memory)->base(), 0xab, memory_bytes) == cudaSuccess);
  REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
  const auto runs = ScatteredRuns(memory_bytes, run_bytes, count, count);
  auto written = RandomBytes(run_bytes * count, 1);

  REQUIRE((*memory)->Write(runs, written.data()).ok());

  std::vector<std::byte> expected(memory_bytes, std::byte{0xab});
  for (const RecordRun& run : runs) {
    std::memcpy(expected.data() + run.memory_offset, written.data() + run.host_offset, run.bytes);
  }
  std::vector<std::byte> all(memory_bytes);
  REQUIRE(cudaMemcpy(all.data(), (*memory)->base(), memory_bytes, cudaMemcpyDeviceToHost) ==
          cudaSuccess);
  CHECK(all == expected);

  std::vector<std::byte> read(written.size());
  REQUIRE((*memory)->Read(runs, read.data()).ok());
  bool same = true;
  for (const RecordRun& run : runs) {
    same &= std::memcmp(read.data() + run.host_offset, written.data() + run.host_offset,
                        run.bytes) == 0;
  }
  CHECK(same);
  CHECK(*(*memory)->FirstDifference(runs, written.data()) == std::nullopt);
  const RecordRun& last = runs.back();
  const uint64_t at = last.host_offset + last.bytes - 1;
  written[at] ^= std::byte{1};
  CHECK(*(*memory)->FirstDifference(runs, written.data()) == at);
}

TEST_CASE("a cache larger than the device's memory is refused and the error says what there is") {
  const auto memory = MakeCudaRecordMemory(0, uint64_t{1} << 40);
  REQUIRE(memory.status().code() == absl::StatusCode::kResourceExhausted);
  INFO(memory.status().ToString());
  CHECK(std::string(memory.status().message()).find("GiB free") != std::string::npos);
}

TEST_CASE("a device that is not there is refused by name") {
  const auto memory = MakeCudaRecordMemory(99, kMiB);
  CHECK(memory.status().code() == absl::StatusCode::kInvalidArgument);
  CHECK(std::string(memory.status().message()).find("cuda:99") != std::string::npos);
}

// Hidden: a fault is the end of the process's use of the device, so that this runs alone.
TEST_CASE("a device that has faulted fails batches and copies, under way and later", "[.fault]") {
  constexpr Geometry kTiny{8, 4};
  constexpr uint64_t kPageBytes = kPageTokens * RecordBytes(kTiny, RecordFormat::kBf16);
  auto memory = MakeCudaRecordMemory(0, kPageBytes);
  REQUIRE(memory.ok());
  auto backend = MakeCudaBackend({.geometry = kTiny,
                                  .cache = {(*memory)->base(), kPageBytes, kPageBytes},
                                  .pages = 1,
                                  .pinned_payloads = true});
  REQUIRE(backend.ok());
  PinnedMemory payload;
  REQUIRE(payload.Grow(4096).ok());
  const uint32_t no_page = 1u << 31;
  const Segment segment = {.page_ids = &no_page, .visible_tokens = 3};
  const Group group = {.tokens = 1, .segments = 1};
  const Problem problem = {.tokens = 1,
                           .heads = 1,
                           .scale = 1,
                           .groups = {&group, 1},
                           .segments = {&segment, 1},
                           .rows = reinterpret_cast<const Bf16*>(payload.data()),
                           .out = payload.data() + 1024,
                           .lse = reinterpret_cast<float*>(payload.data() + 2048)};
  for (int round = 0; round < 2; ++round) {
    (*backend)->Submit(1, {&problem, 1});
    std::vector<BatchResult> done;
    while (done.empty()) (*backend)->Poll(done);
    INFO(done[0].statuses[0].ToString());
    CHECK(done[0].statuses[0].code() == absl::StatusCode::kInternal);
  }
  std::byte record[24] = {};
  const RecordRun run = {.memory_offset = 0, .host_offset = 0, .bytes = sizeof(record)};
  for (const absl::Status& status :
       {(*memory)->Write({&run, 1}, record), (*memory)->Read({&run, 1}, record),
        (*memory)->FirstDifference({&run, 1}, record).status()}) {
    INFO(status.ToString());
    CHECK(status.code() == absl::StatusCode::kInternal);
    CHECK(std::string(status.message()).find("cuda:0 failed: ") == 0);
  }
}

}  // namespace
}  // namespace latentd
