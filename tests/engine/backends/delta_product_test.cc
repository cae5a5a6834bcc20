// Products with deltas: against their definition, and the same bits on every target and in any company.
#include <bit>
#include <cmath>
#include <limits>
#include <memory>
#include <random>
#include <vector>

#include "engine/backends/cpu/cpu_backend.h"
#include "gtest/gtest.h"
#include "kvcache/simd/isa.h"
#include "tests/base/status_matchers.h"
#include "tests/engine/backends/random_tensor.h"

namespace nibble::engine {
namespace {

constexpr int64_t kCols = 100;  // three whole groups and a part of one

SignDelta RandomSigns(int64_t planes, int64_t rows, bool scale_per_row, std::mt19937_64& random) {
  SignDelta delta(planes, rows, (kCols + 31) / 32, scale_per_row);
  for (uint32_t& word : delta.mutable_signs()) word = static_cast<uint32_t>(random());
  for (int64_t plane = 0; plane < planes; ++plane) {
    for (int64_t row = 0; row < rows; ++row) delta.MutableSignsOf(plane, row).back() &= 0xF;
  }
  for (float& scale : delta.mutable_scales()) scale = 0.01f * (1.0f + static_cast<float>(random() % 100));
  return delta;
}

CodeDelta RandomCodes(int64_t rows, std::mt19937_64& random) {
  CodeDelta delta(rows, kCols);
  for (int8_t& code : delta.mutable_codes()) code = static_cast<int8_t>(random() % 255 - 127);
  for (float& scale : delta.mutable_scales()) scale = 0.001f * (1.0f + static_cast<float>(random() % 100));
  return delta;
}

// A matrix of two parts of 20 and 33 outputs, and two fine-tunes of it: one of both parts, one of the second alone.
struct Fixture {
  std::mt19937_64 random{7};
  OwnedTensor first = RandomTensor(Encoding::kF32, 20, kCols, random);
  OwnedTensor second = RandomTensor(Encoding::kF32, 33, kCols, random);
  SignDelta first_signs = RandomSigns(1, 20, true, random), second_signs = RandomSigns(2, 33, false, random);
  CodeDelta second_codes = RandomCodes(33, random);
  std::vector<float> x = RandomFloats(30 * kCols, random);

  std::vector<std::vector<PartDelta>> fine_tunes() const {
    return {{{20, &first_signs, nullptr}, {33, &second_signs, nullptr}},
            {{20, nullptr, nullptr}, {33, nullptr, &second_codes}}};
  }
};

struct Stretch {
  int64_t first_row, num_rows;
  size_t fine_tune;
};

std::vector<float> Multiply(const Fixture& fixture, simd::Isa isa, std::vector<float> x,
                            const std::vector<Stretch>& runs) {
  WorkerPool pool(2);
  CpuBackend backend(isa, pool, kv::RawFormF16(simd::Isa::kScalar), nullptr);
  const auto matrix = backend.LoadMatrix({&fixture.first.tensor, &fixture.second.tensor}, WeightMode::kFile, {});
  EXPECT_THAT(matrix, IsOk());
  std::vector<std::unique_ptr<MatrixDelta>> deltas;
  for (const auto& parts : fixture.fine_tunes()) {
    auto delta = backend.LoadDelta(parts, [] {});
    EXPECT_THAT(delta, IsOk());
    deltas.push_back(*std::move(delta));
  }
  std::vector<DeltaRows> rows;
  for (const Stretch& run : runs) rows.push_back({run.first_row, run.num_rows, deltas[run.fine_tune].get()});
  const int64_t count = static_cast<int64_t>(x.size()) / kCols;
  std::vector<float> out(static_cast<size_t>(count * 53));
  backend.MatMul({x.data(), count, kCols}, **matrix, {}, rows, Epilogue::kStore, {out.data(), count, 53});
  return out;
}

// The definition, in doubles, on activations as QuantizeRow rounds them.
std::vector<double> Definition(const Fixture& fixture, const std::vector<float>& x, size_t fine_tune) {
  QuantizedRowsBuffer buffer;
  const QuantizedRows rounded = buffer.Fit(1, 4);
  QuantizeRow(simd::Isa::kScalar, x.data(), kCols, 0, {}, rounded);
  std::vector<double> out;
  const std::vector<PartDelta> parts = fixture.fine_tunes()[fine_tune];
  for (const PartDelta& part : parts) {
    for (int64_t row = 0; row < part.rows; ++row) {
      std::vector<float> values(kCols);
      if (part.signs != nullptr) part.signs->AddTo(row, absl::MakeSpan(values));
      if (part.codes != nullptr) part.codes->AddTo(row, absl::MakeSpan(values));
      double sum = 0;
      for (int64_t k = 0; k < kCols; ++k) sum += double{values[k]} * rounded.scales[k / 32] * rounded.codes[k];
      out.push_back(sum);
    }
  }
  return out;
}

std::vector<float> RowOf(const std::vector<float>& values, int64_t row, int64_t cols) {
  return {values.begin() + row * cols, values.begin() + (row + 1) * cols};
}

std::vector<uint32_t> Bits(const std::vector<float>& values) {
  std::vector<uint32_t> bits;
  for (const float value : values) bits.push_back(std::bit_cast<uint32_t>(value));
  return bits;
}

// What a row runs with by itself.
std::vector<Stretch> Alone(const std::vector<Stretch>& runs, int64_t row) {
  for (const Stretch& run : runs) {
    if (row >= run.first_row && row < run.first_row + run.num_rows) return {{0, 1, run.fine_tune}};
  }
  return {};
}

TEST(DeltaProduct, AddsWhatTheDefinitionSays) {
  const Fixture fixture;
  for (size_t fine_tune = 0; fine_tune < 2; ++fine_tune) {
    for (int64_t row = 0; row < 5; ++row) {
      const std::vector<float> x = RowOf(fixture.x, row, kCols);
      const std::vector<float> base = Multiply(fixture, simd::Isa::kScalar, x, {});
      const std::vector<float> with = Multiply(fixture, simd::Isa::kScalar, x, {{0, 1, fine_tune}});
      const std::vector<double> want = Definition(fixture, x, fine_tune);
      for (size_t o = 0; o < want.size(); ++o) {
        EXPECT_NEAR(with[o] - base[o], want[o], 1e-5 * (1 + std::fabs(want[o]) + std::fabs(base[o]))) << o;
      }
    }
  }
}

TEST(DeltaProduct, ARowHasTheSameBitsOnEveryTargetAndInAnyCompany) {
  const Fixture fixture;
  // 1, 2, 11 and 9 rows with fine-tunes, the rest without.
  const std::vector<Stretch> runs = {{2, 1, 0}, {3, 2, 1}, {5, 11, 0}, {20, 9, 1}};
  const std::vector<float> batch = Multiply(fixture, simd::Isa::kScalar, fixture.x, runs);
  for (const simd::Isa isa : simd::SupportedIsas()) {
    EXPECT_EQ(Bits(Multiply(fixture, isa, fixture.x, runs)), Bits(batch)) << simd::Name(isa);
    for (int64_t row = 0; row < 30; ++row) {
      EXPECT_EQ(Bits(Multiply(fixture, isa, RowOf(fixture.x, row, kCols), Alone(runs, row))),
                Bits(RowOf(batch, row, 53)))
          << row;
    }
  }
}

// Threads take a part of the rows each, and a stretch of one fine-tune lies in two of them.
TEST(DeltaProduct, AStretchMayLieInThePartsOfTwoThreads) {
  const Fixture fixture;
  const simd::Isa isa = simd::SupportedIsas().back();
  const std::vector<Stretch> runs = {{2, 1, 0}, {51, 62, 1}, {120, 29, 0}};
  std::vector<float> x;
  for (int i = 0; i < 5; ++i) x.insert(x.end(), fixture.x.begin(), fixture.x.end());
  const std::vector<float> batch = Multiply(fixture, isa, x, runs);
  for (int64_t row = 0; row < 150; ++row) {
    EXPECT_EQ(Bits(Multiply(fixture, isa, RowOf(x, row, kCols), Alone(runs, row))), Bits(RowOf(batch, row, 53))) << row;
  }
}

TEST(DeltaProduct, ExtremeActivationsDoNotSaturate) {
  Fixture fixture;
  for (uint32_t& word : fixture.first_signs.mutable_signs()) word = 0xFFFFFFFF;
  for (int64_t row = 0; row < 20; ++row) fixture.first_signs.MutableSignsOf(0, row).back() = 0xF;
  for (const float value : {3.0f, -3.0f}) {
    const std::vector<float> x(kCols, value);
    const std::vector<float> want = Multiply(fixture, simd::Isa::kScalar, x, {{0, 1, 0}});
    for (const simd::Isa isa : simd::SupportedIsas()) {
      EXPECT_EQ(Bits(Multiply(fixture, isa, x, {{0, 1, 0}})), Bits(want)) << simd::Name(isa);
    }
  }
}

TEST(DeltaProduct, NanReachesTheRowThatHasIt) {
  const Fixture fixture;
  std::vector<float> x = {fixture.x.begin(), fixture.x.begin() + 2 * kCols};
  x[5] = std::numeric_limits<float>::quiet_NaN();
  for (const simd::Isa isa : simd::SupportedIsas()) {
    const std::vector<float> out = Multiply(fixture, isa, x, {{0, 2, 0}});
    EXPECT_TRUE(std::isnan(out[0]));
    EXPECT_TRUE(std::isfinite(out[53]));
  }
}

}  // namespace
}  // namespace nibble::engine
