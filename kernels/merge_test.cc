#include "kernels/merge.h"

#include <algorithm>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "kernels/bf16.h"

namespace latentd {
namespace {

constexpr float kEmpty = -std::numeric_limits<float>::infinity();

// Partials of some rows in either format.
struct Partials {
  Partials(uint64_t rows, uint32_t width, OutFormat format)
      : format(format), out(rows * width * OutValueBytes(format), std::byte{0xff}), lse(rows) {}

  float Out(uint64_t i) const {
    if (format == OutFormat::kFp32) return reinterpret_cast<const float*>(out.data())[i];
    return Bf16ToFloat(reinterpret_cast<const Bf16*>(out.data())[i]);
  }
  void SetOut(uint64_t i, float value) {
    if (format == OutFormat::kFp32) {
      reinterpret_cast<float*>(out.data())[i] = value;
    } else {
      reinterpret_cast<Bf16*>(out.data())[i] = FloatToBf16(value);
    }
  }
  PartialView view() const { return {out.data(), lse.data(), format}; }

  OutFormat format;
  std::vector<std::byte> out;
  std::vector<float> lse;
};

// A third of the rows empty, with NaN in their out.
Partials RandomPartials(uint64_t rows, uint32_t width, OutFormat format, std::mt19937_64& random) {
  Partials partials(rows, width, format);
  std::normal_distribution<float> normal;
  for (uint64_t row = 0; row < rows; ++row) {
    if (random() % 3 == 0) {
      partials.lse[row] = kEmpty;
      continue;
    }
    partials.lse[row] = 5 * normal(random);
    for (uint32_t i = 0; i < width; ++i) partials.SetOut(row * width + i, normal(random));
  }
  return partials;
}

Partials Merge(const std::vector<const Partials*>& inputs, uint64_t rows, uint32_t width,
               OutFormat format) {
  Partials merged(rows, width, format);
  std::vector<PartialView> views;
  for (const Partials* input : inputs) views.push_back(input->view());
  MergePartials(views, rows, width, format, merged.out.data(), merged.lse.data());
  return merged;
}

TEST_CASE("merging agrees with fp64 for any number of inputs, widths and formats") {
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    const uint64_t rows = 1 + random() % 4;
    const uint32_t width = 1 + random() % 100;
    const auto format = random() % 2 ? OutFormat::kBf16 : OutFormat::kFp32;
    std::vector<Partials> inputs;
    for (uint64_t i = 0; i < random() % 40; ++i) {
      inputs.push_back(
          RandomPartials(rows, width, random() % 2 ? OutFormat::kBf16 : OutFormat::kFp32, random));
    }
    std::vector<const Partials*> pointers;
    for (const Partials& input : inputs) pointers.push_back(&input);
    const Partials merged = Merge(pointers, rows, width, format);

    for (uint64_t row = 0; row < rows; ++row) {
      double sum = 0;
      for (const Partials& input : inputs) sum += std::exp(double{input.lse[row]});
      if (sum == 0) {
        REQUIRE(merged.lse[row] == kEmpty);
      } else {
        REQUIRE(merged.lse[row] == Approx(std::log(sum)).epsilon(1e-6).margin(1e-6));
      }
      for (uint32_t i = row * width; i < (row + 1) * width; ++i) {
        double expected = 0;
        for (const Partials& input : inputs) {
          if (input.lse[row] == kEmpty) continue;
          expected += std::exp(double{input.lse[row]}) / sum * input.Out(i);
        }
        const double tolerance = format == OutFormat::kBf16 ? 0x1p-8 : 1e-6;
        REQUIRE(std::fabs(merged.Out(i) - expected) <= tolerance * (std::fabs(expected) + 0.1));
      }
    }
  }
}

TEST_CASE("merging is associative and commutative within rounding") {
  std::mt19937_64 random(4);
  const Partials a = RandomPartials(20, 64, OutFormat::kFp32, random);
  const Partials b = RandomPartials(20, 64, OutFormat::kFp32, random);
  const Partials c = RandomPartials(20, 64, OutFormat::kFp32, random);
  const Partials ab = Merge({&a, &b}, 20, 64, OutFormat::kFp32);
  const Partials left = Merge({&ab, &c}, 20, 64, OutFormat::kFp32);
  const Partials bc = Merge({&b, &c}, 20, 64, OutFormat::kFp32);
  const Partials right = Merge({&bc, &a}, 20, 64, OutFormat::kFp32);
  for (uint64_t row = 0; row < 20; ++row) {
    REQUIRE(
        (left.lse[row] == right.lse[row] || left.lse[row] == Approx(right.lse[row]).margin(1e-5)));
    for (uint32_t i = row * 64; i < (row + 1) * 64; ++i) {
      REQUIRE(left.Out(i) == Approx(right.Out(i)).margin(1e-5));
    }
  }
}

TEST_CASE("without a nonempty input the result is empty") {
  Partials empty(2, 10, OutFormat::kBf16);
  empty.lse = {kEmpty, kEmpty};
  for (const Partials& merged :
       {Merge({}, 2, 10, OutFormat::kFp32), Merge({&empty, &empty}, 2, 10, OutFormat::kBf16)}) {
    REQUIRE(merged.lse == empty.lse);
    REQUIRE(std::all_of(merged.out.begin(), merged.out.end(),
                        [](std::byte b) { return b == std::byte{0}; }));
  }
}

TEST_CASE("a single nonempty input passes through bit for bit") {
  for (OutFormat format : {OutFormat::kBf16, OutFormat::kFp32}) {
    Partials one(1, 3, format);
    one.lse[0] = 0.1f;
    one.SetOut(0, -0.0f);
    one.SetOut(1, 0x1p-126f);
    one.SetOut(2, 1.0f / 3);
    Partials empty(1, 3, format);
    empty.lse[0] = kEmpty;
    const Partials merged = Merge({&empty, &one, &empty}, 1, 3, format);
    REQUIRE(merged.out == one.out);
    REQUIRE(merged.lse == one.lse);
  }
}

TEST_CASE("log-sum-exps far outside exp's range merge without overflow") {
  for (float lse : {-3e38f, -1e4f, 1e4f, 3e38f}) {
    Partials a(1, 20, OutFormat::kFp32), b(1, 20, OutFormat::kFp32);
    a.lse[0] = b.lse[0] = lse;
    for (uint32_t i = 0; i < 20; ++i) {
      a.SetOut(i, 1);
      b.SetOut(i, 3);
    }
    const Partials merged = Merge({&a, &b}, 1, 20, OutFormat::kFp32);
    REQUIRE(merged.lse[0] == Approx(lse + std::log(2.0f)));
    REQUIRE(merged.Out(7) == Approx(2));
  }
}

TEST_CASE("a result beyond bf16's range saturates") {
  Partials huge(1, 20, OutFormat::kFp32);
  huge.lse[0] = 0;
  for (uint32_t i = 0; i < 20; ++i)
    huge.SetOut(i, i % 2 ? std::numeric_limits<float>::max() : -3.4e38f);
  const Partials merged = Merge({&huge}, 1, 20, OutFormat::kBf16);
  for (uint32_t i = 0; i < 20; ++i) REQUIRE(std::fabs(merged.Out(i)) == kBf16Max);
}

TEST_CASE("merging in place is the same as merging elsewhere") {
  std::mt19937_64 random(9);
  for (OutFormat format : {OutFormat::kBf16, OutFormat::kFp32}) {
    Partials a = RandomPartials(10, 70, format, random);
    const Partials b = RandomPartials(10, 70, OutFormat::kBf16, random);
    const Partials expected = Merge({&a, &b}, 10, 70, format);
    const PartialView views[] = {a.view(), b.view()};
    MergePartials(views, 10, 70, format, a.out.data(), a.lse.data());
    REQUIRE(a.out == expected.out);
    REQUIRE(a.lse == expected.lse);
  }
}

}  // namespace
}  // namespace latentd
