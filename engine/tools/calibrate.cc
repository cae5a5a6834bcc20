#include "engine/tools/calibrate.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/backends/cpu/worker_pool.h"
#include "engine/tools/kv_collector.h"
#include "engine/tools/solo_sequence.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

// Shorter sequences have too few pages that are read sealed.
constexpr int64_t kLeastContext = 8 * kv::kPageTokens;

absl::Status CheckContext(const OpenedModel& model, int64_t context) {
  const int64_t most = model.file.config.context_length;
  if (context >= kLeastContext && context <= most) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--context=", context, ": must be ", kLeastContext, " to the model's ", most));
}

absl::Status Collect(const OpenedModel& model, absl::Span<const std::vector<int32_t>> chunks,
                     const CalibrateOptions& options, KvCollector& collector, const StageProgress& progress) {
  RunMode mode = options.mode;
  mode.kv = "f16";
  NIBBLE_ASSIGN_OR_RETURN(EngineOptions engine_options, OptionsFor(mode));
  engine_options.step_tokens = options.chunks.context;
  engine_options.max_sequences = 1;
  engine_options.observer = &collector;
  NIBBLE_ASSIGN_OR_RETURN(const std::unique_ptr<CpuEngine> engine,
                          EngineWithPages(engine_options, model, kv::PagesFor(options.chunks.context)));
  SoloSequence sequence(*engine, options.chunks.context);
  for (size_t i = 0; i < chunks.size(); ++i) {
    progress("texts", static_cast<int64_t>(i), static_cast<int64_t>(chunks.size()));
    sequence.Rewind(0);
    sequence.Append(chunks[i], nullptr);
  }
  return absl::OkStatus();
}

bool IsFinite(absl::Span<const double> numbers) {
  return std::all_of(numbers.begin(), numbers.end(), [](double x) { return std::isfinite(x); });
}

// A model may have weights that make no sense.
absl::Status CheckStatistics(const KvStatistics& statistics) {
  for (size_t layer = 0; layer < statistics.layers.size(); ++layer) {
    for (const auto* side : {&statistics.layers[layer].keys, &statistics.layers[layer].values}) {
      for (const VectorStatistics& head : *side) {
        if (std::isfinite(head.weight) && IsFinite(head.moment) && IsFinite(head.metric)) continue;
        return absl::FailedPreconditionError(
            absl::StrCat("layer ", layer, ": the model's attention gives numbers that are not finite"));
      }
    }
  }
  return absl::OkStatus();
}

DesignedCodec DesignOne(const CodecDesign& design, const KvStatistics& statistics, const DesignOptions& options,
                        WorkerPool& pool, const StageProgress& progress) {
  const std::string stage(design.name);
  return DesignCodec(design, statistics, options, [&](int64_t count, const std::function<void(int64_t)>& body) {
    std::atomic<int64_t> done = 0;
    pool.ParallelFor(count, [&](int64_t i, int thread) {
      body(i);
      const int64_t finished = ++done;
      if (thread == 0) progress(stage, finished, count);
    });
  });
}

}  // namespace

absl::StatusOr<Calibrated> Calibrate(const OpenedModel& model, absl::Span<const int32_t> ids,
                                     const CalibrateOptions& options, const StageProgress& progress) {
  NIBBLE_RETURN_IF_ERROR(CheckContext(model, options.chunks.context));
  NIBBLE_RETURN_IF_ERROR(RequireAtLeast("chunks", options.chunks.most, 1));
  NIBBLE_ASSIGN_OR_RETURN(const auto chunks, SpreadChunks(ids, model.tokenizer->data(), options.chunks));
  NIBBLE_ASSIGN_OR_RETURN(const EngineOptions engine_options, OptionsFor(options.mode));
  NIBBLE_ASSIGN_OR_RETURN(const simd::Isa isa, simd::ChooseIsa(engine_options.isa));
  NIBBLE_ASSIGN_OR_RETURN(const std::unique_ptr<WorkerPool> pool, WorkerPool::Create(engine_options.threads));
  KvCollectorOptions collect;
  collect.sample_bytes = options.sample_bytes;
  collect.sequences = static_cast<int64_t>(chunks.size());
  collect.context = options.chunks.context;
  collect.seed = options.seed;
  collect.isa = isa;
  KvCollector collector(model.file, collect, *pool);
  NIBBLE_RETURN_IF_ERROR(Collect(model, chunks, options, collector, progress));
  NIBBLE_RETURN_IF_ERROR(CheckStatistics(collector.statistics()));
  DesignOptions design;
  design.seed = options.seed;
  design.isa = isa;
  Calibrated calibrated;
  calibrated.tokens = static_cast<int64_t>(chunks.size()) * options.chunks.context;
  for (const CodecDesign* one : options.designs) {
    calibrated.codecs.push_back(DesignOne(*one, collector.statistics(), design, *pool, progress));
  }
  return calibrated;
}

}  // namespace nibble::engine
