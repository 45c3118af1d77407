#include "tools/bench_data.h"

#include <cstring>

#include "kernels/bf16.h"
#include "kernels/quantize.h"

namespace latentd {

std::vector<Bf16> RandomBf16(std::mt19937_64& random, size_t count) {
  // A few thousand values over and over: drawing gigabytes of them would take longer than the
  // measurement.
  constexpr size_t kDistinct = 8191;
  std::normal_distribution<float> normal;
  std::vector<Bf16> distinct(kDistinct);
  for (Bf16& value : distinct) value = FloatToBf16(normal(random));
  std::vector<Bf16> values(count);
  const size_t start = random() % kDistinct;
  for (size_t i = 0; i < count; ++i) values[i] = distinct[(start + i) % kDistinct];
  return values;
}

std::vector<std::byte> RandomRecords(std::mt19937_64& random, const Layout& layout,
                                     uint64_t count) {
  const std::vector<Bf16> bf16 = RandomBf16(random, count * layout.geometry().row_width());
  std::vector<std::byte> records(count * layout.record_bytes());
  if (layout.record_format == RecordFormat::kBf16) {
    std::memcpy(records.data(), bf16.data(), records.size());
  } else {
    QuantizeRecords(layout.geometry(), reinterpret_cast<const std::byte*>(bf16.data()), count,
                    records.data());
  }
  return records;
}

}  // namespace latentd
