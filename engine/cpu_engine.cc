#include "engine/cpu_engine.h"

#include <algorithm>
#include <atomic>
#include <functional>
#include <limits>
#include <numeric>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/backends/cpu/cpu_backend.h"
#include "engine/models/kv_codec_model.h"
#include "engine/sampling/sampler.h"
#include "kvcache/base/check.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

// Rows whose logits are made and consumed together: bounds the memory that a long list of logits takes.
constexpr int64_t kLogitRows = 64;

EngineOptions WithoutCalibration(EngineOptions options) {
  options.calibration = nullptr;
  return options;
}

struct LoadedAdapter : Adapter {
  explicit LoadedAdapter(std::unique_ptr<const ModelDelta> loaded) : delta(std::move(loaded)) {}
  int64_t bytes() const override { return delta->bytes; }
  const std::unique_ptr<const ModelDelta> delta;
};

class ModelEngine : public CpuEngine {
 public:
  ModelEngine(const EngineOptions& options, simd::Isa isa, const kv::Codec& codec,
              std::unique_ptr<kv::PageCodec> page_codec, std::unique_ptr<WorkerPool> pool)
      : options_(WithoutCalibration(options)),
        isa_(isa),
        codec_(codec),
        page_codec_(std::move(page_codec)),
        pool_(std::move(pool)),
        backend_(isa, *pool_, codec.raw_form(isa), page_codec_.get()) {}

  absl::Status Load(const ModelFile& file) {
    const ModelConfig& config = file.config;
    NIBBLE_RETURN_IF_ERROR(AllocateKv(config));
    const ModelLoadOptions load = {options_.weights,     options_.activations,
                                   options_.step_tokens, std::min(kLogitRows, options_.step_tokens),
                                   options_.observer,    options_.product_observer};
    NIBBLE_ASSIGN_OR_RETURN(model_, Model::Load(config, *file.weights, backend_, load));
    for (int i = 0; i < pool_->threads(); ++i) samplers_.emplace_back(isa_, config.vocab_size);
    return absl::OkStatus();
  }

  absl::StatusOr<std::unique_ptr<const Adapter>> LoadAdapter(const DeltaFile& delta,
                                                             absl::FunctionRef<void()> pause) const override {
    if (options_.activations == ActivationMode::kF32) {
      return absl::FailedPreconditionError("activations: f32 runs no adapters");
    }
    NIBBLE_ASSIGN_OR_RETURN(std::unique_ptr<const ModelDelta> loaded, model_->LoadDelta(delta, pause));
    return std::make_unique<LoadedAdapter>(std::move(loaded));
  }

  void Launch(const StepPlan& plan) override {
    NIBBLE_CHECK(plan_ == nullptr);
    plan_ = &plan;
    busy_ = true;
  }

  const StepResult& Await() override {
    NIBBLE_CHECK(plan_ != nullptr);
    GatherBatch();
    result_.sequences.assign(plan_->sequences.size(), {});
    if (!ids_.empty()) {
      model_->Forward({ids_, sequences_, adapted_});
      for (size_t first = 0; first < logit_rows_.size(); first += LogitBlock()) ConsumeLogits(first);
    }
    plan_ = nullptr;
    busy_ = false;
    return result_;
  }

  int64_t vocab_size() const override { return model_->config().vocab_size; }
  int64_t context_length() const override { return model_->config().context_length; }
  kv::CacheShape cache_shape() const override { return cache_shape_; }
  int64_t max_step_tokens() const override { return options_.step_tokens; }
  int64_t max_sequences() const override { return options_.max_sequences; }
  bool busy() const override { return busy_; }
  simd::Isa isa() const override { return isa_; }
  ModelCost cost() const override { return model_->cost(); }
  const KvCosts& kv_costs() const override { return kv_costs_; }
  int64_t workspace_bytes() const override { return backend_.workspace_bytes(); }
  double kv_bits() const override {
    const ModelConfig& config = model_->config();
    const int64_t elements = 2 * kv::kPageTokens * config.num_layers * config.num_kv_heads * config.head_dim;
    return 8.0 * static_cast<double>(kv_costs_.page_bytes) / static_cast<double>(elements);
  }

 private:
  // A row whose logits somebody asked for.
  struct LogitRow {
    size_t sequence;
    int64_t index;  // among the sequence's logit rows
  };

  absl::Status AllocateKv(const ModelConfig& config) {
    const KvShape shape = {static_cast<int>(config.num_layers), static_cast<int>(config.num_kv_heads),
                           static_cast<int>(config.head_dim)};
    const int64_t raw_bytes = RawPageBytes(codec_.raw_form(isa_), shape);
    kv_costs_.page_bytes = raw_bytes;
    if (page_codec_ != nullptr) {
      const int64_t passing = options_.step_tokens / kv::kPageTokens * (raw_bytes / shape.num_layers);
      kv_costs_.page_bytes = page_codec_->page_bytes();
      kv_costs_.raw_page_bytes = raw_bytes;
      kv_costs_.table_bytes = page_codec_->table_bytes();
      kv_costs_.passing_bytes = passing;
      kv_costs_.window_pages = options_.kv_window.value_or(codec_.window_pages);
      kv_costs_.sink_pages = options_.kv_sink.value_or(codec_.sink_pages);
    }
    if (options_.kv_pages > 0) {
      cache_shape_ = {options_.kv_pages, 0, kv_costs_.window_pages, kv_costs_.sink_pages};
      if (page_codec_ != nullptr) {
        cache_shape_.raw_slots = options_.kv_raw_slots > 0 ? options_.kv_raw_slots : options_.kv_pages;
      }
    } else {
      NIBBLE_ASSIGN_OR_RETURN(cache_shape_, DivideKvMemory(options_.kv_memory_bytes, kv_costs_, config.context_length,
                                                           options_.max_sequences));
    }
    return backend_.AllocateKv(shape, cache_shape_, options_.step_tokens);
  }

  size_t LogitBlock() const { return static_cast<size_t>(std::min(kLogitRows, options_.step_tokens)); }

  // What Launch requires of a step.
  void CheckStep(const SequenceStep& step) const {
    const int64_t count = static_cast<int64_t>(step.tokens.size());
    NIBBLE_CHECK(step.position >= 0 && kv::PagesFor(step.position + count) <= static_cast<int64_t>(step.pages.size()));
    NIBBLE_CHECK(step.logit_rows >= 0 && step.logit_rows <= count);
    NIBBLE_CHECK(step.sample == nullptr || step.logit_rows >= 1);
    NIBBLE_CHECK(step.targets.empty() || static_cast<int64_t>(step.targets.size()) == step.logit_rows);
    for (const absl::Span<const int32_t> ids : {step.tokens, step.targets}) {
      for (const int32_t id : ids) NIBBLE_CHECK(id >= 0 && id < vocab_size());
    }
    for (const kv::PageId page : step.pages) NIBBLE_CHECK(page >= 0 && page < cache_shape_.num_pages);
    if (cache_shape_.in_place()) return;
    NIBBLE_CHECK(step.raw_slots.size() == step.pages.size());
    for (int64_t page = 0; page * kv::kPageTokens < step.position; ++page) {
      NIBBLE_CHECK(step.raw_slots[page] != kv::kNoRawSlot || !cache_shape_.ReadsRaw(page, step.position));
    }
    for (const kv::RawSlot slot : step.raw_slots) NIBBLE_CHECK(slot >= kv::kNoRawSlot && slot < cache_shape_.raw_slots);
  }

  // Pages that the step begins and fills, and that nobody reads raw after it, pass through places of the engine's own.
  absl::Span<const kv::RawSlot> WithPassingPlaces(const SequenceStep& step) {
    std::vector<kv::RawSlot>& slots = raw_slots_.emplace_back(step.raw_slots.begin(), step.raw_slots.end());
    const int64_t end = step.position + static_cast<int64_t>(step.tokens.size());
    for (int64_t page = kv::PagesFor(step.position); page < end / kv::kPageTokens; ++page) {
      if (slots[page] == kv::kNoRawSlot) slots[page] = static_cast<kv::RawSlot>(cache_shape_.raw_slots + passing_++);
    }
    return slots;
  }

  void GatherBatch() {
    NIBBLE_CHECK(static_cast<int64_t>(plan_->sequences.size()) <= options_.max_sequences);
    ids_.clear();
    sequences_.clear();
    logit_rows_.clear();
    row_indices_.clear();
    raw_slots_.clear();
    raw_slots_.reserve(plan_->sequences.size());
    passing_ = 0;
    adapted_.clear();
    for (const size_t s : ByAdapter()) {
      const SequenceStep& step = plan_->sequences[s];
      const int64_t first = static_cast<int64_t>(ids_.size()), count = static_cast<int64_t>(step.tokens.size());
      CheckStep(step);
      ids_.insert(ids_.end(), step.tokens.begin(), step.tokens.end());
      sequences_.push_back({first, count, step.position, step.pages,
                            cache_shape_.in_place() ? step.raw_slots : WithPassingPlaces(step)});
      if (step.adapter != nullptr) NoteAdapted(static_cast<const LoadedAdapter*>(step.adapter)->delta.get(), count);
      for (int64_t i = 0; i < step.logit_rows; ++i) {
        logit_rows_.push_back({s, i});
        row_indices_.push_back(first + count - step.logit_rows + i);
      }
    }
  }

  // The plan's sequences, those of one adapter together.
  const std::vector<size_t>& ByAdapter() {
    order_.resize(plan_->sequences.size());
    std::iota(order_.begin(), order_.end(), size_t{0});
    std::stable_sort(order_.begin(), order_.end(), [this](size_t a, size_t b) {
      return std::less<>()(plan_->sequences[a].adapter, plan_->sequences[b].adapter);
    });
    return order_;
  }

  // The last `count` rows of the batch so far.
  void NoteAdapted(const ModelDelta* delta, int64_t count) {
    const int64_t end = static_cast<int64_t>(ids_.size());
    if (!adapted_.empty() && adapted_.back().delta == delta) {
      adapted_.back().num_rows += count;
    } else {
      adapted_.push_back({end - count, count, delta});
    }
  }

  void ConsumeLogits(size_t first) {
    const size_t count = std::min(LogitBlock(), logit_rows_.size() - first);
    const View logits = model_->Logits(absl::MakeSpan(row_indices_).subspan(first, count));
    for (size_t i = 0; i < count; ++i) ReserveTargets(logit_rows_[first + i]);
    pool_->ParallelFor(static_cast<int64_t>(count), [&](int64_t i, int thread) {
      const LogitRow& row = logit_rows_[first + i];
      ConsumeRow(row, absl::MakeSpan(logits.row(i), logits.cols), samplers_[thread]);
    });
    // Rows of one sequence may run on several threads: each has its own flag, joined here.
    for (size_t i = 0; i < count; ++i) {
      const LogitRow& row = logit_rows_[first + i];
      if (row_faulted_[i] != 0) result_.sequences[row.sequence].faulted = true;
    }
  }

  void ReserveTargets(const LogitRow& row) {
    const SequenceStep& step = plan_->sequences[row.sequence];
    result_.sequences[row.sequence].targets.resize(step.targets.size());
    row_faulted_.resize(LogitBlock());
  }

  void ConsumeRow(const LogitRow& row, absl::Span<float> logits, Sampler& sampler) {
    const SequenceStep& step = plan_->sequences[row.sequence];
    SequenceResult& result = result_.sequences[row.sequence];
    if (step.logits_out != nullptr) {
      std::copy(logits.begin(), logits.end(), step.logits_out + row.index * static_cast<int64_t>(logits.size()));
    }
    const bool faulted = !sampler.AllFinite(logits);
    row_faulted_[RowInBlock(row)] = faulted;
    if (faulted) return;
    if (!step.targets.empty()) {
      result.targets[row.index] = sampler.LogprobsOf(logits, step.targets[row.index], step.prompt_logprobs_top);
    }
    if (step.sample != nullptr && row.index == step.logit_rows - 1) {
      result.token = sampler.Sample(logits, *step.sample);
      row_faulted_[RowInBlock(row)] = result.token < 0;
      if (result.token < 0) return;
      const int32_t top = step.sample->params->logprobs;
      if (top >= 0) result.logprobs = sampler.LogprobsOf(logits, result.token, top);
    }
  }

  size_t RowInBlock(const LogitRow& row) const { return static_cast<size_t>(&row - logit_rows_.data()) % LogitBlock(); }

  const EngineOptions options_;  // the calibration is not kept
  const simd::Isa isa_;
  const kv::Codec& codec_;
  const std::unique_ptr<kv::PageCodec> page_codec_;  // nullptr: pages stay raw
  const std::unique_ptr<WorkerPool> pool_;
  CpuBackend backend_;
  std::unique_ptr<Model> model_;
  std::vector<Sampler> samplers_;  // per thread
  KvCosts kv_costs_;
  kv::CacheShape cache_shape_;

  const StepPlan* plan_ = nullptr;
  std::atomic<bool> busy_ = false;  // as plan_ says it, for other threads
  StepResult result_;
  std::vector<int32_t> ids_;
  std::vector<SequenceRows> sequences_;
  std::vector<size_t> order_;  // of the plan's sequences in the batch
  std::vector<AdaptedRows> adapted_;
  std::vector<std::vector<kv::RawSlot>> raw_slots_;  // of the sequences, with passing places
  int64_t passing_ = 0;                              // places given out
  std::vector<LogitRow> logit_rows_;
  std::vector<int64_t> row_indices_;  // into the batch, parallel to logit_rows_
  std::vector<char> row_faulted_;     // of the current block of logits
};

absl::Status CheckStepLimit(const char* option, int64_t value) {
  if (value >= 1 && value <= kMaxStepTokens) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(option, ": must be 1 to ", kMaxStepTokens));
}

absl::Status CheckOptions(const EngineOptions& options, const ModelConfig& config) {
  if (options.threads < 1 || options.threads > 1024) return absl::InvalidArgumentError("threads: must be 1 to 1024");
  NIBBLE_RETURN_IF_ERROR(CheckStepLimit("step_tokens", options.step_tokens));
  NIBBLE_RETURN_IF_ERROR(CheckStepLimit("max_sequences", options.max_sequences));
  if (options.weights == WeightMode::kF32 && options.activations != ActivationMode::kF32) {
    return absl::InvalidArgumentError("activations: weights f32 need activations f32");
  }
  if (config.head_dim % 16 != 0) {
    return absl::InvalidArgumentError(absl::StrCat("head_dim: ", config.head_dim, " is not a multiple of 16"));
  }
  return absl::OkStatus();
}

absl::StatusOr<std::unique_ptr<kv::PageCodec>> CreatePageCodec(const kv::Codec& codec, const EngineOptions& options,
                                                               const ModelFile& file, simd::Isa isa) {
  if (codec.create == nullptr) return nullptr;
  if (codec.calibrated && options.calibration == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("kv_calibration: the codec ", std::string(codec.name),
                                                   " needs one; make it with `nibble calibrate`"));
  }
  return codec.create(CodecModelOf(file.config), options.calibration.get(), isa);
}

}  // namespace

absl::StatusOr<WeightMode> ParseWeightMode(const std::string& text) {
  if (text == "file") return WeightMode::kFile;
  if (text == "w8") return WeightMode::kW8;
  if (text == "w4") return WeightMode::kW4;
  if (text == "f32") return WeightMode::kF32;
  return absl::InvalidArgumentError(absl::StrCat("weights: '", text, "' is none of file, w8, w4, f32"));
}

absl::StatusOr<ActivationMode> ParseActivationMode(const std::string& text) {
  if (text == "a8") return ActivationMode::kA8;
  if (text == "a4") return ActivationMode::kA4;
  if (text == "f32") return ActivationMode::kF32;
  return absl::InvalidArgumentError(absl::StrCat("activations: '", text, "' is none of a8, a4, f32"));
}

absl::StatusOr<std::unique_ptr<CpuEngine>> CreateEngine(const EngineOptions& options, const ModelFile& file) {
  NIBBLE_RETURN_IF_ERROR(CheckOptions(options, file.config));
  NIBBLE_ASSIGN_OR_RETURN(const simd::Isa isa, simd::ChooseIsa(options.isa));
  const kv::Codec* codec = kv::FindCodec(options.kv_codec);
  if (codec == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("kv: '", options.kv_codec, "' is not a codec of this build"));
  }
  NIBBLE_ASSIGN_OR_RETURN(std::unique_ptr<kv::PageCodec> page_codec, CreatePageCodec(*codec, options, file, isa));
  NIBBLE_ASSIGN_OR_RETURN(std::unique_ptr<WorkerPool> pool, WorkerPool::Create(options.threads));
  auto engine = std::make_unique<ModelEngine>(options, isa, *codec, std::move(page_codec), std::move(pool));
  NIBBLE_RETURN_IF_ERROR(engine->Load(file));
  return engine;
}

}  // namespace nibble::engine
