// What a matrix product costs: rows of activations quantized and multiplied by packed weights, for the shapes of real
// models, by instruction set, format and rows, on one core; and what quantizing a row costs of it, a group of 32 inputs
// as they are or turned first.
//
// usage: matmul_bench [Google Benchmark's flags, e.g. --benchmark_filter=avx512/q4_1]
//
// Prints multiply-adds per second, weights read per second, and the share of the core's int8 peak, measured at start.
// Small matrices come from the caches here, where a model of many layers reads them from memory.
#include <benchmark/benchmark.h>

#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "engine/backends/cpu/cpu_backend.h"
#include "engine/backends/cpu/row_rounding.h"
#include "engine/backends/cpu/worker_pool.h"
#include "engine/quant/weight_groups.h"
#include "engine/tools/machine.h"
#include "engine/weights/weight_source.h"
#include "kvcache/codecs/raw_form.h"
#include "kvcache/simd/half.h"

namespace nibble::engine {
namespace {

struct Shape {
  const char* name;
  int64_t inputs, outputs;
};
constexpr Shape kShapes[] = {{"smollm2_gate_up", 576, 3072},  {"smollm2_down", 1536, 576},
                             {"qwen0.5b_gate_up", 896, 9728}, {"qwen0.5b_down", 4864, 896},
                             {"llama8b_qkv", 4096, 6144},     {"llama8b_down", 14336, 4096}};
constexpr Encoding kEncodings[] = {Encoding::kQ4_1, Encoding::kQ8_0};

// Random codes; scales and mins of about a hundredth.
std::vector<std::byte> RandomBlocks(const EncodingTraits& traits, int64_t blocks) {
  std::mt19937 random(1);
  std::vector<std::byte> bytes(blocks * traits.block_bytes);
  for (std::byte& byte : bytes) byte = static_cast<std::byte>(random());
  const uint16_t scale = simd::FloatToHalf(0.01f);
  const int params = traits.encoding == Encoding::kQ4_1 ? 2 : 1;
  for (int64_t block = 0; block < blocks; ++block) {
    for (int i = 0; i < params; ++i) std::memcpy(&bytes[block * traits.block_bytes + 2 * i], &scale, sizeof(scale));
  }
  return bytes;
}

// One matrix behind a backend of one thread.
class Product {
 public:
  Product(simd::Isa isa, const Shape& shape, const EncodingTraits& traits)
      : backend_(isa, pool_, kv::RawFormF16(isa), nullptr), shape_(shape) {
    const std::vector<std::byte> blocks = RandomBlocks(traits, shape.inputs * shape.outputs / traits.block_elements);
    const Tensor tensor = {"random", traits.encoding, {shape.outputs, shape.inputs}, blocks};
    matrix_ = *backend_.LoadMatrix({&tensor}, WeightMode::kFile, {});
  }

  void Run(benchmark::State& state, double peak_gmacs) {
    const int64_t rows = state.range(0);
    const View x = *backend_.AllocateView(rows, shape_.inputs), out = *backend_.AllocateView(rows, shape_.outputs);
    std::mt19937 random(2);
    std::normal_distribution<float> normal;
    for (int64_t i = 0; i < rows * shape_.inputs; ++i) x.data[i] = normal(random);
    for (auto unused : state) backend_.MatMul(x, *matrix_, {}, {}, Epilogue::kStore, out);
    const double products = static_cast<double>(state.iterations());
    const auto gmacs = static_cast<double>(rows * shape_.inputs * shape_.outputs) * 1e-9;
    const auto rate = benchmark::Counter::kIsRate;
    state.counters["GMAC/s"] = benchmark::Counter(products * gmacs, rate);
    state.counters["of_peak"] = benchmark::Counter(products * gmacs / peak_gmacs, rate);
    state.counters["weights"] = benchmark::Counter(products * static_cast<double>(matrix_->bytes()), rate);
  }

 private:
  WorkerPool pool_{1};
  CpuBackend backend_;
  const Shape shape_;
  std::unique_ptr<Matrix> matrix_;
};

void RoundRow(benchmark::State& state, simd::Isa isa, bool rotated) {
  constexpr int64_t kGroups = 48;  // SmolLM2's down projection
  std::vector<float> x(kGroups * kGroupSize);
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  for (float& value : x) value = normal(random);
  QuantizedRowsBuffer buffer;
  const QuantizedRows rows = buffer.Fit(1, kGroups);
  for (auto unused : state) {
    QuantizeRow(isa, x.data(), static_cast<int64_t>(x.size()), 0, {nullptr, rotated}, rows);
    benchmark::DoNotOptimize(*rows.row_sums);
  }
  state.counters["groups"] =
      benchmark::Counter(static_cast<double>(state.iterations() * kGroups), benchmark::Counter::kIsRate);
}

void RegisterRounding(simd::Isa isa) {
  for (const bool rotated : {false, true}) {
    const std::string name = std::string(simd::Name(isa)) + "/round_row" + (rotated ? "/rotated" : "");
    benchmark::RegisterBenchmark(name.c_str(),
                                 [isa, rotated](benchmark::State& state) { RoundRow(state, isa, rotated); });
  }
}

void RegisterAll() {
  for (const simd::Isa isa : simd::SupportedIsas()) {
    if (isa == simd::Isa::kScalar) continue;  // a reference, not a way to serve
    RegisterRounding(isa);
    const double peak = MeasureMachine(isa, 1).int8_gmacs;
    for (const Encoding encoding : kEncodings) {
      for (const Shape& shape : kShapes) {
        const EncodingTraits& traits = TraitsOf(encoding);
        const std::string name =
            std::string(simd::Name(isa)) + "/" + std::string(traits.name) + "/" + std::string(shape.name);
        benchmark::RegisterBenchmark(
            name.c_str(),
            [isa, &shape, &traits, peak](benchmark::State& state) { Product(isa, shape, traits).Run(state, peak); })
            ->Arg(1)
            ->Arg(8)
            ->Arg(32)
            ->Arg(512)
            ->ArgName("rows");
      }
    }
  }
}

}  // namespace
}  // namespace nibble::engine

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  nibble::engine::RegisterAll();
  benchmark::RunSpecifiedBenchmarks();
}
