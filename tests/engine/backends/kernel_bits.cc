// Prints a digest of what the plainest kernels of products, rows and softmax make of seeded numbers, one a line: the
// same on every processor (law 1). neon_test.py compares those of two processors.
//
// usage: kernel_bits
//
// Needs the kernels' own files and headers alone, so that it is quickly built for a processor whose libraries are not
// here.
#include <algorithm>
#include <cinttypes>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "engine/backends/cpu/attention_kernels.h"
#include "engine/backends/cpu/delta_kernels.h"
#include "engine/backends/cpu/matmul_kernels.h"
#include "engine/backends/cpu/row_kernels.h"
#include "engine/backends/cpu/row_rounding.h"

namespace nibble::engine {
namespace {

constexpr simd::Isa kIsa = simd::Isa::kScalar;  // NEON on AArch64

// FNV-1a.
uint64_t Digest(const std::vector<float>& values) {
  uint64_t digest = 14695981039346656037u;
  std::vector<unsigned char> bytes(values.size() * sizeof(float));
  std::memcpy(bytes.data(), values.data(), bytes.size());
  for (const unsigned char byte : bytes) digest = (digest ^ byte) * 1099511628211u;
  return digest;
}

void Print(const std::string& what, const std::vector<float>& values) {
  std::printf("%s %016" PRIx64 "\n", what.c_str(), Digest(values));
}

// Numbers with no help of the C library, whose logarithm is not the same everywhere: up to 4 in size, some much larger,
// some groups all zero.
class Numbers {
 public:
  std::vector<float> Make(size_t count) {
    std::vector<float> values(count);
    for (float& value : values) {
      const auto draw = static_cast<int32_t>(random_() % 32769) - 16384;
      value = static_cast<float>(draw) * (random_() % 64 == 0 ? 0x1p-6f : 0x1p-12f);
    }
    for (size_t i = 0; i + 32 <= count; i += 32 * 7) std::fill_n(values.begin() + static_cast<int64_t>(i), 32, 0.0f);
    return values;
  }
  // Codes of all values; parameters of about a hundredth.
  std::vector<std::byte> Panel(const GroupFormat& format, int64_t groups) {
    std::vector<std::byte> panel;
    for (int64_t g = 0; g < groups; ++g) {
      for (int i = 0; i < 16 * kGroupSize * format.bits / 8; ++i) panel.push_back(static_cast<std::byte>(random_()));
      for (int i = 0; i < (format.has_min ? 32 : 16); ++i) {
        const uint16_t half = static_cast<uint16_t>(0x2000 + random_() % 0x200);
        const float whole = static_cast<float>(half) * 0x1p-20f;
        const auto* bytes =
            format.half_params ? reinterpret_cast<const std::byte*>(&half) : reinterpret_cast<const std::byte*>(&whole);
        panel.insert(panel.end(), bytes, bytes + (format.half_params ? 2 : 4));
      }
    }
    return panel;
  }

 private:
  std::mt19937 random_{1};
};

// Rows of one seeded matrix, as codes.
struct Rounded {
  Rounded(const std::vector<float>& x, int64_t rows, bool int4, bool rotated = false) {
    const int64_t cols = static_cast<int64_t>(x.size()) / rows;
    groups = (cols + kGroupSize - 1) / kGroupSize;
    std::vector<float> inputs(static_cast<size_t>(groups) * kGroupSize, 1.0f);
    for (size_t i = 0; i < inputs.size(); i += 8) inputs[i] = 0.0f;
    view = buffer.Fit(rows, groups);
    for (int64_t row = 0; row < rows; ++row) {
      QuantizeRow(kIsa, x.data() + row * cols, cols, row, {int4 ? inputs.data() : nullptr, rotated}, view);
    }
  }

  int64_t groups;
  QuantizedRowsBuffer buffer;
  QuantizedRows view;
};

struct Shape {
  int64_t rows, cols;
  int outputs;
};
constexpr Shape kShapes[] = {{1, 32, 16}, {2, 96, 5}, {3, 40, 16}, {7, 576, 16}, {13, 256, 1}};

// x times a panel of weights, by a kernel.
std::vector<float> Product(PanelKernel kernel, const std::vector<std::byte>& panel, const std::vector<float>& x,
                           const Rounded& rounded, const Shape& shape) {
  std::vector<float> out(static_cast<size_t>(shape.rows * shape.outputs), 1.0f);
  PanelArgs args;
  args.panel = panel.data(), args.rows = shape.rows, args.x = &rounded.view, args.x_f32 = x.data();
  args.cols = shape.cols, args.add = true;
  args.out = out.data(), args.out_stride = shape.outputs, args.outputs = shape.outputs;
  kernel(args);
  return out;
}

std::vector<float> DeltaProduct(int bits, const std::vector<std::byte>& panel, const std::vector<float>& scales,
                                const Rounded& rounded, const Shape& shape) {
  std::vector<float> out(static_cast<size_t>(shape.rows * shape.outputs), 1.0f);
  DeltaPanelArgs args;
  args.panel = panel.data(), args.scales = scales.data(), args.rows = shape.rows, args.x = &rounded.view;
  args.out = out.data(), args.out_stride = shape.outputs, args.outputs = shape.outputs;
  DeltaPanelKernelFor(kIsa, bits)(args);
  return out;
}

void PrintProducts(const Shape& shape, Numbers& numbers) {
  const std::string size =
      std::to_string(shape.rows) + "x" + std::to_string(shape.cols) + "x" + std::to_string(shape.outputs);
  const std::vector<float> x = numbers.Make(static_cast<size_t>(shape.rows * shape.cols));
  for (const bool int4 : {false, true}) {
    const Rounded rounded(x, shape.rows, int4);
    const std::string name = size + (int4 ? " a4" : " a8");
    for (const GroupFormat& format :
         {GroupFormat{4, true, true}, {4, true, false}, {8, false, true}, {8, true, false}}) {
      const std::vector<std::byte> panel = numbers.Panel(format, rounded.groups);
      Print("product " + name + " w" + std::to_string(format.bits) + (format.half_params ? " halves" : " floats"),
            Product(QuantizedPanelKernel(kIsa, format), panel, x, rounded, shape));
    }
    for (const int bits : {1, 8}) {
      const std::vector<std::byte> panel = numbers.Panel({8, false, true}, rounded.groups);
      Print("delta " + name + " " + std::to_string(bits), DeltaProduct(bits, panel, numbers.Make(16), rounded, shape));
    }
    const std::vector<float> weights = numbers.Make(static_cast<size_t>(shape.cols) * 16);
    const auto* bytes = reinterpret_cast<const std::byte*>(weights.data());
    Print("product " + name + " f32",
          Product(FloatPanelKernel(kIsa), {bytes, bytes + weights.size() * sizeof(float)}, x, rounded, shape));
  }
}

void PrintRows(Numbers& numbers) {
  const RowKernels& kernels = RowKernelsFor(kIsa);
  for (const int64_t n : {16, 64, 576, 896}) {
    const std::vector<float> x = numbers.Make(static_cast<size_t>(n)), y = numbers.Make(static_cast<size_t>(n));
    const std::string size = " " + std::to_string(n);
    const auto print = [&](const char* name, const auto& run) {
      std::vector<float> out = x;
      run(out);
      Print(name + size, out);
    };
    print("rms_norm", [&](auto& out) { kernels.rms_norm(x.data(), y.data(), n, 1e-5f, out.data()); });
    print("add", [&](auto& out) { kernels.add(x.data(), y.data(), n, out.data()); });
    print("scale", [&](auto& out) { kernels.scale(0.37f, n, out.data()); });
    const int dims = static_cast<int>(n);
    print("rope_halves", [&](auto& out) { kernels.rope_halves(y.data(), y.data() + n / 2, dims, out.data()); });
    print("rope_pairs", [&](auto& out) { kernels.rope_pairs(y.data(), y.data() + n / 2, dims, out.data()); });
    print("silu_mul", [&](auto& out) { kernels.silu_mul(x.data(), y.data(), n, out.data()); });
    print("gelu_tanh_mul", [&](auto& out) { kernels.gelu_tanh_mul(x.data(), y.data(), n, out.data()); });
    print("soft_cap", [&](auto& out) { kernels.soft_cap(30.0f, n, out.data()); });
  }
}

void PrintSoftmax(Numbers& numbers) {
  const AttentionKernels& kernels = AttentionKernelsFor(kIsa);
  constexpr int64_t kScores = 96, kDim = 64;
  std::vector<float> scores = numbers.Make(kScores), more = numbers.Make(kScores);
  std::vector<float> mixed = numbers.Make(kDim);
  const std::vector<float> next = numbers.Make(kDim);
  SoftmaxState state = kernels.softmax(scores.data(), kScores, 5, 90);
  Print("softmax", scores);
  const SoftmaxState of_next = kernels.softmax(more.data(), kScores, 0, kScores);
  const JoinFactors factors = kernels.join(state, of_next);
  kernels.blend(factors, kDim, mixed.data(), next.data());
  Print("blend", mixed);
  std::vector<float> out(kDim);
  kernels.finish(state, mixed.data(), kDim, out.data());
  Print("finish", out);
}

void PrintRotated(Numbers& numbers) {
  for (const int64_t cols : {96, 576}) {
    const Rounded rounded(numbers.Make(static_cast<size_t>(5 * cols)), 5, /*int4=*/false, /*rotated=*/true);
    const QuantizedRows& rows = rounded.view;
    Print("rotated " + std::to_string(cols), {rows.scales, rows.scales + 5 * rows.groups});
    Print("rotated codes " + std::to_string(cols), {rows.codes, rows.codes + 5 * cols});
  }
}

void PrintAll() {
  Numbers numbers;
  for (const Shape& shape : kShapes) PrintProducts(shape, numbers);
  PrintRows(numbers);
  PrintRotated(numbers);
  PrintSoftmax(numbers);
}

}  // namespace
}  // namespace nibble::engine

int main() { nibble::engine::PrintAll(); }
