#include "engine/backends/cpu/row_kernels.h"

#include <bit>
#include <cmath>
#include <functional>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "tests/engine/backends/random_tensor.h"

namespace nibble::engine {
namespace {

// One kernel over a row of n values, as a function of its input.
using RowFunction = std::function<std::vector<float>(const RowKernels&, std::vector<float>)>;

struct RowCase {
  const char* name;
  RowFunction run;
  std::function<double(const std::vector<float>&, int64_t)> want;  // element i of the output
};

double MeanSquare(const std::vector<float>& x) {
  double sum = 0.0;
  for (float v : x) sum += double{v} * v;
  return sum / static_cast<double>(x.size());
}

const std::vector<RowCase>& Cases() {
  static const std::vector<RowCase>* const cases = new std::vector<RowCase>{
      {"rms_norm",
       [](const RowKernels& k, std::vector<float> x) {
         const std::vector<float> weight(x.size(), 1.5f);
         k.rms_norm(x.data(), weight.data(), static_cast<int64_t>(x.size()), 1e-5f, x.data());
         return x;
       },
       [](const std::vector<float>& x, int64_t i) { return x[i] / std::sqrt(MeanSquare(x) + 1e-5) * 1.5; }},
      {"silu_mul",
       [](const RowKernels& k, std::vector<float> x) {
         k.silu_mul(x.data(), x.data(), static_cast<int64_t>(x.size()), x.data());
         return x;
       },
       [](const std::vector<float>& x, int64_t i) { return x[i] / (1 + std::exp(-double{x[i]})) * x[i]; }},
      {"gelu_tanh_mul",
       [](const RowKernels& k, std::vector<float> x) {
         k.gelu_tanh_mul(x.data(), x.data(), static_cast<int64_t>(x.size()), x.data());
         return x;
       },
       [](const std::vector<float>& x, int64_t i) {
         const double v = x[i];
         return 0.5 * v * (1 + std::tanh(std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v))) * v;
       }},
      {"soft_cap",
       [](const RowKernels& k, std::vector<float> x) {
         k.soft_cap(2.0f, static_cast<int64_t>(x.size()), x.data());
         return x;
       },
       [](const std::vector<float>& x, int64_t i) { return 2.0 * std::tanh(x[i] / 2.0); }},
      {"scale",
       [](const RowKernels& k, std::vector<float> x) {
         k.scale(0.3f, static_cast<int64_t>(x.size()), x.data());
         return x;
       },
       [](const std::vector<float>& x, int64_t i) { return double{0.3f} * x[i]; }},
      {"add",
       [](const RowKernels& k, std::vector<float> x) {
         k.add(x.data(), x.data(), static_cast<int64_t>(x.size()), x.data());
         return x;
       },
       [](const std::vector<float>& x, int64_t i) { return 2.0 * x[i]; }},
  };
  return *cases;
}

TEST(RowKernels, EqualTheirDefinition) {
  std::mt19937_64 random(1);
  for (const RowCase& row_case : Cases()) {
    for (int64_t n : {1, 15, 16, 17, 576}) {
      std::vector<float> x = RandomFloats(n, random);
      for (float& v : x) v *= 3.0f;
      const std::vector<float> got = row_case.run(RowKernelsFor(simd::Isa::kScalar), x);
      for (int64_t i = 0; i < n; ++i) {
        const double want = row_case.want(x, i);
        // A few ulps of the result, and those of 1 inside tanh.
        EXPECT_NEAR(got[i], want, 2e-6 * std::fabs(want) + 3e-7) << row_case.name << " " << i;
      }
    }
  }
}

TEST(RowKernels, EveryTargetGivesTheBitsOfTheScalarOne) {
  std::mt19937_64 random(2);
  for (const RowCase& row_case : Cases()) {
    for (int64_t n : {1, 15, 16, 17, 100, 576}) {
      std::vector<float> x = RandomFloats(n, random);
      for (float& v : x) v *= 30.0f;
      const std::vector<float> want = row_case.run(RowKernelsFor(simd::Isa::kScalar), x);
      for (simd::Isa isa : simd::SupportedIsas()) {
        const std::vector<float> got = row_case.run(RowKernelsFor(isa), x);
        for (int64_t i = 0; i < n; ++i) {
          EXPECT_EQ(std::bit_cast<uint32_t>(got[i]), std::bit_cast<uint32_t>(want[i]))
              << row_case.name << " " << simd::Name(isa) << " n " << n << " at " << i;
        }
      }
    }
  }
}

TEST(RowKernels, RopeRotatesPairs) {
  std::mt19937_64 random(3);
  for (int dims : {2, 32, 48, 64}) {
    const std::vector<float> head = RandomFloats(64, random), angles = RandomFloats(dims / 2, random);
    std::vector<float> cosines, sines;
    for (float angle : angles) {
      cosines.push_back(std::cos(angle));
      sines.push_back(std::sin(angle));
    }
    for (simd::Isa isa : simd::SupportedIsas()) {
      for (bool interleaved : {false, true}) {
        std::vector<float> got = head;
        const RowKernels& kernels = RowKernelsFor(isa);
        (interleaved ? kernels.rope_pairs : kernels.rope_halves)(cosines.data(), sines.data(), dims, got.data());
        for (int i = 0; i < dims / 2; ++i) {
          const int a = interleaved ? 2 * i : i, b = interleaved ? 2 * i + 1 : dims / 2 + i;
          EXPECT_NEAR(got[a], head[a] * cosines[i] - head[b] * sines[i], 1e-6);
          EXPECT_NEAR(got[b], head[a] * sines[i] + head[b] * cosines[i], 1e-6);
        }
        for (int i = dims; i < 64; ++i) EXPECT_EQ(got[i], head[i]);
      }
    }
  }
}

TEST(RowKernels, RopeGivesTheSameBitsOnEveryTarget) {
  std::mt19937_64 random(4);
  const std::vector<float> head = RandomFloats(80, random), cosines = RandomFloats(40, random),
                           sines = RandomFloats(40, random);
  for (const auto rope : {&RowKernels::rope_halves, &RowKernels::rope_pairs}) {
    std::vector<float> want = head;
    (RowKernelsFor(simd::Isa::kScalar).*rope)(cosines.data(), sines.data(), 80, want.data());
    for (simd::Isa isa : simd::SupportedIsas()) {
      std::vector<float> got = head;
      (RowKernelsFor(isa).*rope)(cosines.data(), sines.data(), 80, got.data());
      EXPECT_EQ(got, want) << simd::Name(isa);
    }
  }
}

}  // namespace
}  // namespace nibble::engine
