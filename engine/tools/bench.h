// Speed of a model by kind of work, and how much of the machine that is.
#ifndef NIBBLE_ENGINE_TOOLS_BENCH_H_
#define NIBBLE_ENGINE_TOOLS_BENCH_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/tools/eval.h"
#include "engine/tools/machine.h"
#include "engine/tools/opened_model.h"

namespace nibble::engine {

struct BenchOptions {
  int64_t prefill_tokens = 512;
  int64_t decode_steps = 128;
  std::vector<int64_t> batches;
  std::vector<int64_t> depths;  // tokens in the cache of each sequence before the clock starts
  std::vector<std::string> codecs;
  std::string activations = "a8";
  std::vector<int64_t> adapters = {0};  // fine-tunes that the sequences of a row take in turn
  int64_t repeat = 3;
};

struct BenchRow {
  std::string kind;  // "prefill" (one prompt) or "decode"
  int64_t batch = 1;
  int64_t depth = 0;
  int64_t adapters = 0;
  std::string kv;
  double tokens_per_second = 0.0;  // of all sequences together, median of the repeats
  // Products with weights, 1e9 multiply-adds per second; attention is not counted.
  double gmacs = 0.0;
  double of_compute_peak = 0.0;
  // Weights once per step plus the cache that each sequence reads, against the measured read bandwidth.
  double of_bandwidth_peak = 0.0;
};

struct BenchReport {
  BenchMachine machine;
  std::vector<BenchRow> rows;
};

// Fine-tunes are random signs for every projection; a batch is run with as many as it has sequences at most.
// Depth is memory that is there and attended to, not a text: one token of every page was written. Repeats go round all
// rows of a codec, so that a slow spell of the machine does not fall on one row. INVALID_ARGUMENT for a depth beyond
// the model's context or a cache beyond the machine's free memory.
absl::StatusOr<BenchReport> Bench(const OpenedModel& model, const BenchOptions& options, const Progress& progress);

// {"machine": {…}, "rows": […]}.
std::string BenchJson(const BenchReport& report);

// The command's own run.
absl::Status RunBench(const std::vector<std::string>& positionals);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_TOOLS_BENCH_H_
