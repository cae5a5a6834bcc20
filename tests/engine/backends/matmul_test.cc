#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "engine/backends/cpu/cpu_backend.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kvcache/simd/half.h"
#include "tests/base/status_matchers.h"
#include "tests/engine/backends/random_tensor.h"

namespace nibble::engine {
namespace {

constexpr Encoding kAllEncodings[] = {Encoding::kF32,  Encoding::kF16,  Encoding::kBF16, Encoding::kQ8_0,
                                      Encoding::kQ4_0, Encoding::kQ4_1, Encoding::kQ5_0, Encoding::kQ5_1,
                                      Encoding::kQ4_K, Encoding::kQ5_K, Encoding::kQ6_K, Encoding::kH8_0};

struct Product {
  WeightMode weights = WeightMode::kFile;
  InputRounding inputs;
  int threads = 1;
  std::vector<float> bias;
  bool add = false;
};

// rows x cols times the parts, on one instruction set. The output starts at 1 where it is added to.
std::vector<float> Multiply(simd::Isa isa, const Product& product, const std::vector<const Tensor*>& parts,
                            std::vector<float> x, int64_t rows) {
  WorkerPool pool(product.threads);
  CpuBackend backend(isa, pool, kv::RawFormF16(simd::Isa::kScalar), nullptr);
  auto matrix = backend.LoadMatrix(parts, product.weights, product.inputs);
  EXPECT_THAT(matrix, IsOk());
  std::vector<float> out(rows * (*matrix)->rows(), 1.0f);
  backend.MatMul({x.data(), rows, (*matrix)->cols()}, **matrix, product.bias, {},
                 product.add ? Epilogue::kAdd : Epilogue::kStore, {out.data(), rows, (*matrix)->rows()});
  return out;
}

std::vector<uint32_t> Bits(const std::vector<float>& values) {
  std::vector<uint32_t> bits;
  for (float value : values) bits.push_back(std::bit_cast<uint32_t>(value));
  return bits;
}

// The naive twin: decoded weights, double sums.
std::vector<double> NaiveProduct(const Tensor& tensor, const std::vector<float>& x, int64_t rows) {
  const std::vector<float> weights = Decode(tensor);
  std::vector<double> out(rows * tensor.rows());
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t o = 0; o < tensor.rows(); ++o) {
      for (int64_t k = 0; k < tensor.cols(); ++k) {
        out[r * tensor.rows() + o] += double{weights[o * tensor.cols() + k]} * x[r * tensor.cols() + k];
      }
    }
  }
  return out;
}

// The largest difference, relative to the norms of the row and the weights that met.
double WorstRelative(const Tensor& tensor, const std::vector<float>& x, const std::vector<float>& got, int64_t rows) {
  const std::vector<double> want = NaiveProduct(tensor, x, rows);
  const std::vector<float> weights = Decode(tensor);
  double worst = 0.0;
  for (int64_t r = 0; r < rows; ++r) {
    for (int64_t o = 0; o < tensor.rows(); ++o) {
      double x_norm = 0.0, w_norm = 0.0;
      for (int64_t k = 0; k < tensor.cols(); ++k) {
        x_norm += std::pow(x[r * tensor.cols() + k], 2);
        w_norm += std::pow(weights[o * tensor.cols() + k], 2);
      }
      const int64_t at = r * tensor.rows() + o;
      worst = std::max(worst, std::fabs(got[at] - want[at]) / (std::sqrt(x_norm * w_norm) + 1e-30));
    }
  }
  return worst;
}

TEST(MatMul, FloatProductEqualsNaiveProductForEveryEncoding) {
  std::mt19937_64 random(1);
  for (Encoding encoding : kAllEncodings) {
    const OwnedTensor w = RandomTensor(encoding, 37, 512, random);
    const std::vector<float> x = RandomFloats(5 * 512, random);
    Product product;
    product.weights = WeightMode::kF32;
    product.inputs = {ActivationMode::kF32};
    EXPECT_LT(WorstRelative(w.tensor, x, Multiply(simd::Isa::kScalar, product, {&w.tensor}, x, 5), 5), 1e-6)
        << TraitsOf(encoding).name;
  }
}

TEST(MatMul, IntegerProductIsWithinTheRoundingOfActivations) {
  std::mt19937_64 random(2);
  for (Encoding encoding : kAllEncodings) {
    const OwnedTensor w = RandomTensor(encoding, 37, 512, random);
    const std::vector<float> x = RandomFloats(5 * 512, random);
    // Each activation is off by at most half of largest/127, about 0.012 for the largest of 32 normal values; errors
    // are independent, so their share of the norm is about 0.012 / sqrt(3), and less than twice that over 185 outputs.
    EXPECT_LT(WorstRelative(w.tensor, x, Multiply(simd::Isa::kScalar, {}, {&w.tensor}, x, 5), 5), 0.014 / std::sqrt(32))
        << TraitsOf(encoding).name;
  }
}

TEST(MatMul, EveryTargetGivesTheBitsOfTheScalarOne) {
  std::mt19937_64 random(3);
  for (Encoding encoding : kAllEncodings) {
    for (const auto& [rows, outputs] : {std::pair{1, 16}, {2, 1}, {3, 17}, {7, 48}, {13, 31}, {40, 33}}) {
      const OwnedTensor w = RandomTensor(encoding, outputs, 256, random);
      const std::vector<float> x = RandomFloats(rows * 256, random);
      for (WeightMode mode : {WeightMode::kFile, WeightMode::kW8, WeightMode::kW4, WeightMode::kF32}) {
        Product product;
        product.weights = mode;
        if (mode == WeightMode::kF32) product.inputs = {ActivationMode::kF32};
        const auto want = Bits(Multiply(simd::Isa::kScalar, product, {&w.tensor}, x, rows));
        for (simd::Isa isa : simd::SupportedIsas()) {
          EXPECT_EQ(Bits(Multiply(isa, product, {&w.tensor}, x, rows)), want)
              << TraitsOf(encoding).name << " " << simd::Name(isa) << " rows " << rows;
        }
      }
    }
  }
}

// More groups than are rounded at once.
TEST(MatMul, RotatedInputsMeetRotatedWeightsHoweverLongTheRow) {
  std::mt19937_64 random(12);
  for (const int64_t cols : {512, 544, 576, 1568}) {
    const OwnedTensor w = RandomTensor(Encoding::kH8_0, 20, cols, random);
    const std::vector<float> x = RandomFloats(static_cast<size_t>(3 * cols), random);
    const std::vector<float> want = Multiply(simd::Isa::kScalar, {}, {&w.tensor}, x, 3);
    EXPECT_LT(WorstRelative(w.tensor, x, want, 3), 0.014 / std::sqrt(32)) << cols;
    for (const simd::Isa isa : simd::SupportedIsas()) {
      EXPECT_EQ(Bits(Multiply(isa, {}, {&w.tensor}, x, 3)), Bits(want)) << simd::Name(isa) << ", " << cols;
    }
  }
}

TEST(MatMul, FloatActivationsMeetTheValuesThatTheCodesStandFor) {
  // What `file` rounds to 8 bits for integer activations, it rounds for float ones too.
  std::mt19937_64 random(11);
  for (Encoding encoding :
       {Encoding::kF32, Encoding::kF16, Encoding::kBF16, Encoding::kQ6_K, Encoding::kQ8_0, Encoding::kH8_0}) {
    const OwnedTensor w = RandomTensor(encoding, 20, 256, random);
    const std::vector<float> x = RandomFloats(256, random);
    Product as_in_file, w8;
    as_in_file.inputs = w8.inputs = {ActivationMode::kF32};
    w8.weights = WeightMode::kW8;
    EXPECT_EQ(Bits(Multiply(simd::Isa::kScalar, as_in_file, {&w.tensor}, x, 1)),
              Bits(Multiply(simd::Isa::kScalar, w8, {&w.tensor}, x, 1)))
        << TraitsOf(encoding).name;
  }
}

TEST(MatMul, ARowAloneHasTheBitsItHasInABatch) {
  std::mt19937_64 random(4);
  for (const Encoding encoding : {Encoding::kQ4_1, Encoding::kH8_0}) {
    const OwnedTensor w = RandomTensor(encoding, 80, 96, random);
    const std::vector<float> x = RandomFloats(23 * 96, random);
    for (simd::Isa isa : simd::SupportedIsas()) {
      Product product;
      product.threads = 2;
      const std::vector<float> batch = Multiply(isa, product, {&w.tensor}, x, 23);
      for (int64_t row = 0; row < 23; ++row) {
        const std::vector<float> alone =
            Multiply(isa, {}, {&w.tensor}, {x.begin() + row * 96, x.begin() + (row + 1) * 96}, 1);
        EXPECT_EQ(Bits(alone), Bits({batch.begin() + row * 80, batch.begin() + (row + 1) * 80})) << row;
      }
    }
  }
}

// Enough rows that threads read the panels for a part of them each.
TEST(MatMul, HowRowsAreSharedAmongThreadsDoesNotShow) {
  std::mt19937_64 random(5);
  const OwnedTensor q4 = RandomTensor(Encoding::kQ4_1, 83, 96, random),
                    q8 = RandomTensor(Encoding::kQ8_0, 40, 96, random);
  for (const int64_t rows : {127, 128, 205, 400}) {
    const std::vector<float> x = RandomFloats(rows * 96, random);
    Product product;
    product.bias = RandomFloats(123, random);
    product.add = true;
    const auto want = Bits(Multiply(simd::SupportedIsas().back(), product, {&q4.tensor, &q8.tensor}, x, rows));
    for (const int threads : {2, 3, 5}) {
      product.threads = threads;
      EXPECT_EQ(Bits(Multiply(simd::SupportedIsas().back(), product, {&q4.tensor, &q8.tensor}, x, rows)), want)
          << rows << " rows, " << threads << " threads";
    }
  }
}

TEST(MatMul, FourBitActivationsGiveTheBitsOfTheScalarTargetAloneAndInABatch) {
  std::mt19937_64 random(15);
  for (Encoding encoding : {Encoding::kQ4_0, Encoding::kQ4_1, Encoding::kQ8_0, Encoding::kF32, Encoding::kH8_0}) {
    const OwnedTensor w = RandomTensor(encoding, 33, 160, random);
    const std::vector<float> x = RandomFloats(300 * 160, random);
    for (const std::vector<int32_t>& int8_inputs : {std::vector<int32_t>{}, {0, 3, 64, 70, 159}}) {
      if (encoding == Encoding::kH8_0 && !int8_inputs.empty()) continue;  // no file has both
      Product product;
      product.inputs = {ActivationMode::kA4, int8_inputs};
      const std::vector<float> want = Multiply(simd::Isa::kScalar, product, {&w.tensor}, x, 300);
      for (simd::Isa isa : simd::SupportedIsas()) {
        EXPECT_EQ(Bits(Multiply(isa, product, {&w.tensor}, x, 300)), Bits(want)) << simd::Name(isa);
        for (const int rows : {1, 3}) {
          EXPECT_EQ(Bits(Multiply(isa, product, {&w.tensor}, {x.begin(), x.begin() + rows * 160}, rows)),
                    Bits({want.begin(), want.begin() + rows * 33}));
        }
      }
    }
  }
}

TEST(MatMul, ExtremeCodesDoNotSaturate) {
  // All codes and activations at their ends: the largest pair sums that the 16-bit products of AVX2 meet.
  for (const uint8_t code : {0x80, 0x81, 0x7F, 0xFF, 0x00}) {
    for (Encoding encoding : {Encoding::kQ8_0, Encoding::kQ4_0, Encoding::kQ5_1}) {
      std::mt19937_64 random(5);
      OwnedTensor w = RandomTensor(encoding, 16, 64, random);
      const int64_t block = TraitsOf(encoding).block_bytes, codes = block - (encoding == Encoding::kQ8_0 ? 32 : 16);
      for (size_t i = 0; i < w.bytes.size(); ++i) {
        if (static_cast<int64_t>(i) % block >= codes) w.bytes[i] = static_cast<std::byte>(code);
      }
      for (float sign : {1.0f, -1.0f}) {
        const std::vector<float> x(64, sign * 3.0f);
        for (const ActivationMode activations : {ActivationMode::kA8, ActivationMode::kA4}) {
          Product product;
          product.inputs = {activations};
          const auto want = Bits(Multiply(simd::Isa::kScalar, product, {&w.tensor}, x, 1));
          for (simd::Isa isa : simd::SupportedIsas()) {
            EXPECT_EQ(Bits(Multiply(isa, product, {&w.tensor}, x, 1)), want)
                << simd::Name(isa) << " code " << int{code};
          }
        }
      }
    }
  }
}

TEST(MatMul, ZeroAndTinyActivationsGiveZero) {
  std::mt19937_64 random(6);
  const OwnedTensor w = RandomTensor(Encoding::kQ4_1, 16, 64, random);
  for (float value : {0.0f, -0.0f, 1e-38f, std::numeric_limits<float>::denorm_min()}) {
    EXPECT_THAT(Multiply(simd::Isa::kScalar, {}, {&w.tensor}, std::vector<float>(64, value), 1), testing::Each(0.0f));
  }
}

TEST(MatMul, NanAndInfinityReachTheOutput) {
  std::mt19937_64 random(7);
  const OwnedTensor w = RandomTensor(Encoding::kQ8_0, 16, 64, random);
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    std::vector<float> x(2 * 64, 1.0f);
    x[5] = bad;
    for (simd::Isa isa : simd::SupportedIsas()) {
      const std::vector<float> out = Multiply(isa, {}, {&w.tensor}, x, 2);
      for (int i = 0; i < 16; ++i) {
        EXPECT_TRUE(std::isnan(out[i])) << simd::Name(isa);
        EXPECT_TRUE(std::isfinite(out[16 + i])) << "the neighbour is unharmed on " << simd::Name(isa);
      }
    }
  }
}

TEST(MatMul, WeightsThatAreNotFiniteReachTheirOutputAlone) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    std::mt19937_64 random(11);
    OwnedTensor w = RandomTensor(Encoding::kF32, 16, 64, random);
    std::memcpy(&w.bytes[(3 * 64 + 40) * sizeof(float)], &bad, sizeof bad);
    for (const WeightMode mode : {WeightMode::kW8, WeightMode::kW4}) {
      Product product;
      product.weights = mode;
      for (simd::Isa isa : simd::SupportedIsas()) {
        const std::vector<float> out = Multiply(isa, product, {&w.tensor}, std::vector<float>(64, 1.0f), 1);
        for (int i = 0; i < 16; ++i) EXPECT_EQ(std::isnan(out[i]), i == 3) << simd::Name(isa) << " " << i;
      }
    }
  }
}

TEST(MatMul, AMinBeyondItsFormatIsRefusedNamingTheTensor) {
  std::mt19937_64 random(12);
  OwnedTensor w = RandomTensor(Encoding::kQ4_0, 4, 64, random);
  w.tensor.name = "blk.0.attn_q.weight";
  WorkerPool pool(1);
  CpuBackend backend(simd::Isa::kScalar, pool, kv::RawFormF16(simd::Isa::kScalar), nullptr);
  for (const float scale : {8188.0f, 8192.0f, -8192.0f}) {  // eight of the first are f16's largest
    const uint16_t half = simd::FloatToHalf(scale);
    std::memcpy(&w.bytes[2 * TraitsOf(Encoding::kQ4_0).block_bytes], &half, sizeof half);
    const absl::Status status = backend.LoadMatrix({&w.tensor}, WeightMode::kFile, {}).status();
    if (scale == 8188.0f) {
      EXPECT_THAT(status, IsOk());
    } else {
      EXPECT_THAT(status, StatusIs(absl::StatusCode::kFailedPrecondition, testing::HasSubstr("blk.0.attn_q.weight")));
    }
    EXPECT_THAT(backend.LoadMatrix({&w.tensor}, WeightMode::kFile, {ActivationMode::kF32}), IsOk()) << scale;
  }
}

TEST(MatMul, FusedPartsOfDifferentEncodingsLieSideBySide) {
  std::mt19937_64 random(8);
  const OwnedTensor a = RandomTensor(Encoding::kQ4_K, 18, 256, random);
  const OwnedTensor b = RandomTensor(Encoding::kQ6_K, 5, 256, random);
  const std::vector<float> x = RandomFloats(3 * 256, random);
  for (simd::Isa isa : simd::SupportedIsas()) {
    const std::vector<float> both = Multiply(isa, {}, {&a.tensor, &b.tensor}, x, 3);
    const std::vector<float> first = Multiply(isa, {}, {&a.tensor}, x, 3);
    const std::vector<float> second = Multiply(isa, {}, {&b.tensor}, x, 3);
    for (int r = 0; r < 3; ++r) {
      EXPECT_EQ(Bits({both.begin() + r * 23, both.begin() + r * 23 + 18}),
                Bits({first.begin() + r * 18, first.begin() + r * 18 + 18}));
      EXPECT_EQ(Bits({both.begin() + r * 23 + 18, both.begin() + r * 23 + 23}),
                Bits({second.begin() + r * 5, second.begin() + r * 5 + 5}));
    }
  }
}

TEST(MatMul, EpilogueAddsBiasAndWhatIsThere) {
  std::mt19937_64 random(9);
  const OwnedTensor w = RandomTensor(Encoding::kQ4_0, 19, 32, random);
  const std::vector<float> x = RandomFloats(32, random), bias = RandomFloats(19, random);
  for (simd::Isa isa : simd::SupportedIsas()) {
    const std::vector<float> plain = Multiply(isa, {}, {&w.tensor}, x, 1);
    Product product;
    product.bias = bias;
    product.add = true;
    const std::vector<float> full = Multiply(isa, product, {&w.tensor}, x, 1);
    for (int i = 0; i < 19; ++i) EXPECT_EQ(full[i], 1.0f + (plain[i] + bias[i]));
  }
}

TEST(MatMul, ColumnsNeedNotFillAGroup) {
  std::mt19937_64 random(10);
  const OwnedTensor w = RandomTensor(Encoding::kF32, 8, 50, random);
  const std::vector<float> x = RandomFloats(2 * 50, random);
  const std::vector<float> scalar = Multiply(simd::Isa::kScalar, {}, {&w.tensor}, x, 2);
  EXPECT_LT(WorstRelative(w.tensor, x, scalar, 2), 0.01);
  for (simd::Isa isa : simd::SupportedIsas()) EXPECT_EQ(Bits(Multiply(isa, {}, {&w.tensor}, x, 2)), Bits(scalar));
}

}  // namespace
}  // namespace nibble::engine
