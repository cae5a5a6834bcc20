#include "engine/tools/machine.h"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <functional>
#include <limits>
#include <string_view>
#include <thread>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "engine/tools/peak_kernels.h"

namespace nibble::engine {
namespace {

constexpr size_t kReadFloats = size_t{64} << 20;  // far more than caches hold
constexpr int kRepeats = 5;                       // the best counts: a peak is what the machine can do undisturbed

// The text after the first `key` of a file of `key : value` lines; empty if there is none.
std::string FieldOf(const char* path, absl::string_view key) {
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const std::pair<absl::string_view, absl::string_view> parts = absl::StrSplit(line, absl::MaxSplits(':', 1));
    if (absl::StripAsciiWhitespace(parts.first) == key) return std::string(absl::StripAsciiWhitespace(parts.second));
  }
  return "";
}

// Shortest time in which `threads` threads all run body(thread).
double BestSeconds(int threads, const std::function<void(int)>& body) {
  double best = std::numeric_limits<double>::infinity();
  for (int repeat = 0; repeat < kRepeats; ++repeat) {
    const auto start = std::chrono::steady_clock::now();
    std::vector<std::thread> others;
    for (int i = 1; i < threads; ++i) others.emplace_back(body, i);
    body(0);
    for (std::thread& other : others) other.join();
    best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  }
  return best;
}

double Int8Gmacs(const PeakKernels& kernels, int threads) {
  constexpr int64_t kRounds = 4'000'000;
  std::vector<int64_t> macs(static_cast<size_t>(threads) * 8);  // a cache line each
  const double seconds = BestSeconds(threads, [&](int thread) {
    int32_t sink = thread;
    macs[static_cast<size_t>(thread) * 8] = kernels.int8_macs(kRounds, &sink);
  });
  return static_cast<double>(macs[0]) * threads / seconds * 1e-9;
}

double ReadGbps(const PeakKernels& kernels, int threads) {
  const std::vector<float> values(kReadFloats, 1.0f);
  const size_t share = kReadFloats / static_cast<size_t>(threads) / 64 * 64;
  std::vector<float> sums(static_cast<size_t>(threads) * 16);
  const double seconds = BestSeconds(threads, [&](int thread) {
    const auto index = static_cast<size_t>(thread);
    sums[index * 16] = kernels.read(absl::MakeConstSpan(values).subspan(index * share, share));
  });
  return static_cast<double>(share * sizeof(float)) * threads / seconds * 1e-9;
}

}  // namespace

BenchMachine MeasureMachine(simd::Isa isa, int threads) {
  const PeakKernels& kernels = PeakKernelsFor(isa);
  const std::string cpu = FieldOf("/proc/cpuinfo", "model name");
  return {cpu.empty() ? "unknown" : cpu, std::string(simd::Name(isa)), threads, Int8Gmacs(kernels, threads),
          ReadGbps(kernels, threads)};
}

int64_t AvailableMemoryBytes() {
  const std::string text = FieldOf("/proc/meminfo", "MemAvailable");
  int64_t kib = 0;
  const absl::string_view number = absl::StripSuffix(text, " kB");
  return absl::SimpleAtoi(number, &kib) ? kib * 1024 : std::numeric_limits<int64_t>::max();
}

}  // namespace nibble::engine
