#include "engine/tools/bench.h"

#include <algorithm>
#include <chrono>
#include <memory>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/adapters/delta_file.h"
#include "engine/tools/solo_sequence.h"
#include "engine/weights/layer_products.h"
#include "kvcache/base/check.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

constexpr int64_t kStepTokens = 512;

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

// What one row runs; its seconds, one per repeat.
struct Work {
  std::string kind;
  int64_t batch;
  int64_t depth;
  int64_t adapters;
  int64_t tokens;  // of each sequence, timed
  std::vector<double> seconds;

  int64_t capacity() const { return depth + tokens + 1; }  // one more to warm up
  int64_t pages() const { return batch * kv::PagesFor(capacity()); }
};

std::vector<Work> WorkOf(const BenchOptions& options) {
  std::vector<Work> all;
  const auto add = [&](const std::string& kind, int64_t batch, int64_t depth, int64_t tokens) {
    for (const int64_t adapters : options.adapters) {
      if (adapters <= batch) all.push_back({kind, batch, depth, adapters, tokens, {}});
    }
  };
  for (const int64_t depth : options.depths) {
    if (options.prefill_tokens > 0) add("prefill", 1, depth, options.prefill_tokens);
    if (options.decode_steps == 0) continue;
    for (const int64_t batch : options.batches) add("decode", batch, depth, options.decode_steps);
  }
  return all;
}

// One engine and codec at work.
class CodecBench {
 public:
  CodecBench(CpuEngine& engine, int64_t vocab_size, absl::Span<const std::unique_ptr<const Adapter>> adapters)
      : engine_(engine), adapters_(adapters) {
    for (int64_t i = 0; i < kStepTokens; ++i) ids_.push_back(static_cast<int32_t>((i * 7919 + 13) % vocab_size));
    params_.temperature = 0.0f;
    request_.params = &params_;
  }

  // Fills every page, each as the second page of a sequence of its own, so that it is sealed too: memory that was never
  // written would all be one page of zeros to the system, and in the processor's cache.
  void TouchPages() {
    const int64_t pages = engine_.cache_shape().num_pages;
    std::vector<std::vector<kv::PageId>> tables;
    for (int64_t page = 0; page < pages; ++page) {
      tables.push_back({static_cast<kv::PageId>(page == 0), static_cast<kv::PageId>(page)});
    }
    const bool raw_slots = !engine_.cache_shape().in_place();
    const int64_t at_once = std::min(engine_.max_step_tokens() / kv::kPageTokens, engine_.max_sequences());
    for (int64_t first = 0; first < pages; first += at_once) {
      StepPlan plan;
      for (int64_t page = first; page < std::min(first + at_once, pages); ++page) {
        SequenceStep step;
        step.tokens = absl::MakeConstSpan(ids_).first(kv::kPageTokens);
        step.position = kv::kPageTokens;
        step.pages = tables[page];
        if (raw_slots) step.raw_slots = tables[page];
        plan.sequences.push_back(step);
      }
      engine_.Launch(plan);
      engine_.Await();
    }
  }

  double Seconds(const Work& work) { return work.kind == "prefill" ? Prefill(work) : Decode(work); }

 private:
  double Prefill(const Work& work) {
    SoloSequence sequence(engine_, work.capacity());
    sequence.Rewind(work.depth);
    if (work.adapters > 0) sequence.set_adapter(adapters_[0].get());
    std::vector<int32_t> prompt;
    while (static_cast<int64_t>(prompt.size()) < work.tokens) prompt.push_back(ids_[prompt.size() % ids_.size()]);
    const auto start = std::chrono::steady_clock::now();
    sequence.Append(prompt, &request_);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  double Decode(const Work& work) {
    std::vector<SoloSequence> sequences;
    const int64_t pages_each = kv::PagesFor(work.capacity());
    for (int64_t i = 0; i < work.batch; ++i) {
      sequences.emplace_back(engine_, work.capacity(), static_cast<kv::PageId>(i * pages_each));
      sequences.back().Rewind(work.depth);
      if (work.adapters > 0) sequences.back().set_adapter(adapters_[static_cast<size_t>(i % work.adapters)].get());
    }
    std::vector<int32_t> last(static_cast<size_t>(work.batch), ids_[0]);
    DecodeStep(sequences, last);  // warms up
    const auto start = std::chrono::steady_clock::now();
    for (int64_t step = 0; step < work.tokens; ++step) DecodeStep(sequences, last);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  void DecodeStep(std::vector<SoloSequence>& sequences, std::vector<int32_t>& last) {
    StepPlan plan;
    for (size_t i = 0; i < sequences.size(); ++i) {
      plan.sequences.push_back(sequences[i].StepFor(absl::MakeConstSpan(last).subspan(i, 1), &request_));
    }
    engine_.Launch(plan);
    const StepResult& result = engine_.Await();
    for (size_t i = 0; i < sequences.size(); ++i) {
      // A faulted row has no token; any id does for timing.
      last[i] = std::max(0, result.sequences[i].token);
      sequences[i].Advance(1);
    }
  }

  CpuEngine& engine_;
  const absl::Span<const std::unique_ptr<const Adapter>> adapters_;
  std::vector<int32_t> ids_;
  SamplingParams params_;
  SampleRequest request_;
};

BenchRow RowOf(const Work& work, const std::string& kv, const CpuEngine& engine, const BenchMachine& machine) {
  const ModelCost cost = engine.cost();
  const double seconds = Median(work.seconds);
  const bool prefill = work.kind == "prefill";
  const double tokens = static_cast<double>(work.batch * work.tokens);
  const int64_t step_tokens = engine.max_step_tokens();
  const double steps = static_cast<double>(prefill ? (work.tokens + step_tokens - 1) / step_tokens : work.tokens);
  const double head_rows = prefill ? 1.0 : tokens;
  const double macs = tokens * static_cast<double>(cost.layer_macs) + head_rows * static_cast<double>(cost.head_macs);
  // On average a step finds half of the timed tokens in the cache.
  const double cached = static_cast<double>(work.batch) * static_cast<double>(work.depth + work.tokens / 2);
  const double bytes = steps * static_cast<double>(cost.layer_weight_bytes) +
                       (prefill ? 1.0 : steps) * static_cast<double>(cost.head_weight_bytes) +
                       steps * cached * static_cast<double>(engine.kv_costs().page_bytes) / kv::kPageTokens;
  BenchRow row = {work.kind, work.batch, work.depth, work.adapters, kv, tokens / seconds, macs / seconds * 1e-9,
                  0.0,       0.0};
  row.of_compute_peak = row.gmacs / machine.int8_gmacs;
  row.of_bandwidth_peak = bytes / seconds * 1e-9 / machine.read_gbps;
  return row;
}

absl::Status CheckOptions(const BenchOptions& options, int64_t context) {
  NIBBLE_RETURN_IF_ERROR(RequireAtLeast("prefill", options.prefill_tokens, 0));
  NIBBLE_RETURN_IF_ERROR(RequireAtLeast("decode", options.decode_steps, 0));
  NIBBLE_RETURN_IF_ERROR(RequireAtLeast("repeat", options.repeat, 1));
  for (const int64_t batch : options.batches) {
    if (batch > kMaxStepTokens) {
      return absl::InvalidArgumentError(absl::StrCat("--batch=", batch, ": must be at most ", kMaxStepTokens));
    }
  }
  for (const Work& work : WorkOf(options)) {
    if (work.capacity() > context) {
      return absl::InvalidArgumentError(absl::StrCat("--depth=", work.depth, ": with ", work.tokens, " tokens of ",
                                                     work.kind, " it exceeds the model's context of ", context));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckMemory(const Work& largest, int64_t bytes) {
  const int64_t available = AvailableMemoryBytes();
  if (bytes <= available) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("--batch=", largest.batch, " --depth=", largest.depth,
                                                 ": the cache of ", bytes >> 20, " MiB exceeds the free memory of ",
                                                 available >> 20, " MiB"));
}

absl::StatusOr<std::unique_ptr<CpuEngine>> EngineFor(const OpenedModel& model, const BenchOptions& options,
                                                     const std::string& codec, absl::Span<const Work> all) {
  NIBBLE_ASSIGN_OR_RETURN(EngineOptions engine_options, OptionsFor({"file", options.activations, codec}));
  const int64_t largest_batch = *std::max_element(options.batches.begin(), options.batches.end());
  engine_options.step_tokens = std::max(kStepTokens, largest_batch);
  engine_options.max_sequences = engine_options.step_tokens;
  const Work& largest =
      *std::max_element(all.begin(), all.end(), [](const Work& a, const Work& b) { return a.pages() < b.pages(); });
  NIBBLE_RETURN_IF_ERROR(CheckMemory(largest, KvBytes(model, codec, largest.pages())));
  return EngineWithPages(engine_options, model, largest.pages());
}

// Signs for every projection, of the size that fine-tunes have.
DeltaFile RandomDelta(const WeightSource& base, std::mt19937& random) {
  DeltaFile delta;
  for (const Tensor& tensor : base.tensors()) {
    if (!IsProjection(tensor.name)) continue;
    const int64_t words = (tensor.cols() + 31) / 32;
    SignDelta signs(1, tensor.rows(), words, /*scale_per_row=*/false);
    for (uint32_t& word : signs.mutable_signs()) word = random();
    signs.mutable_scales()[0] = 1e-4f;
    delta.signs.emplace(tensor.name, std::move(signs));
  }
  return delta;
}

absl::StatusOr<std::vector<std::unique_ptr<const Adapter>>> RandomAdapters(const CpuEngine& engine,
                                                                           const WeightSource& base, int64_t count) {
  std::mt19937 random(1);
  std::vector<std::unique_ptr<const Adapter>> adapters(static_cast<size_t>(count));
  for (std::unique_ptr<const Adapter>& adapter : adapters) {
    NIBBLE_ASSIGN_OR_RETURN(adapter, engine.LoadAdapter(RandomDelta(base, random), [] {}));
  }
  return adapters;
}

}  // namespace

absl::StatusOr<BenchReport> Bench(const OpenedModel& model, const BenchOptions& options, const Progress& progress) {
  NIBBLE_RETURN_IF_ERROR(CheckOptions(options, model.file.config.context_length));
  BenchReport report;
  int64_t done = 0;
  for (const std::string& codec : options.codecs) {
    std::vector<Work> all = WorkOf(options);
    if (all.empty()) return absl::InvalidArgumentError("--prefill=0 --decode=0 leave nothing to run");
    NIBBLE_ASSIGN_OR_RETURN(const std::unique_ptr<CpuEngine> engine, EngineFor(model, options, codec, all));
    if (report.machine.cpu.empty()) report.machine = MeasureMachine(engine->isa(), ThreadsFromFlags());
    const int64_t most = *std::max_element(options.adapters.begin(), options.adapters.end());
    NIBBLE_ASSIGN_OR_RETURN(const auto adapters, RandomAdapters(*engine, *model.file.weights, most));
    CodecBench bench(*engine, model.file.config.vocab_size, adapters);
    bench.TouchPages();
    const int64_t runs = static_cast<int64_t>(options.codecs.size() * all.size()) * options.repeat;
    for (int64_t round = 0; round < options.repeat; ++round) {
      for (Work& work : all) {
        work.seconds.push_back(bench.Seconds(work));
        progress(++done, runs);
      }
    }
    for (const Work& work : all) report.rows.push_back(RowOf(work, codec, *engine, report.machine));
  }
  return report;
}

}  // namespace nibble::engine
