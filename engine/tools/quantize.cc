#include "engine/tools/quantize.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/backends/cpu/worker_pool.h"
#include "engine/quant/gptq.h"
#include "engine/quant/group_blocks.h"
#include "engine/quant/weight_groups.h"
#include "engine/tools/product_statistics.h"
#include "engine/tools/solo_sequence.h"
#include "engine/weights/layer_products.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

constexpr int64_t kRowsPerItem = 64;  // of a matrix, rounded together

class Quantizer {
 public:
  Quantizer(const OpenedModel& model, const QuantizeOptions& options, const StageProgress& progress, WorkerPool& pool)
      : model_(model), config_(model.file.config), options_(options), progress_(progress), pool_(pool) {}

  absl::StatusOr<QuantizedWeights> Run(absl::Span<const std::vector<int32_t>> chunks) {
    for (const Tensor& tensor : model_.file.weights->tensors()) out_.tensors.push_back(tensor);
    const auto layers = static_cast<int>(config_.num_layers);
    const int at_once = chunks.empty() ? layers : LayersAtOnce();
    for (int first = 0; first < layers; first += at_once) {
      const int end = std::min(layers, first + at_once);
      std::optional<ProductStatistics> statistics;
      if (!chunks.empty()) {
        statistics.emplace(first, end, simd::SupportedIsas().back(), pool_);
        NIBBLE_RETURN_IF_ERROR(Read(chunks, *statistics));
      }
      for (int layer = first; layer < end; ++layer) {
        progress_("layers", layer, layers);
        NIBBLE_RETURN_IF_ERROR(QuantizeLayer(layer, statistics.has_value() ? &statistics->layer(layer) : nullptr));
      }
    }
    for (Tensor& tensor : out_.tensors) {
      const bool matrix = tensor.shape.size() > 1 && !tensor.name.starts_with("blk.");
      if (matrix && !HasGroupCodes(tensor)) RoundNearest(Encoding::kQ8_0, &tensor);
    }
    return std::move(out_);
  }

 private:
  int LayersAtOnce() const {
    const double hidden = static_cast<double>(config_.hidden_size),
                 inner = static_cast<double>(config_.intermediate_size);
    const double attention = static_cast<double>(config_.num_heads * config_.head_dim);
    const double bytes = sizeof(float) * (2 * hidden * hidden + attention * attention + inner * inner);
    return std::max(1, static_cast<int>(static_cast<double>(options_.statistics_bytes) / bytes));
  }

  // Runs all chunks through the model while `statistics` watches its layers.
  absl::Status Read(absl::Span<const std::vector<int32_t>> chunks, ProductStatistics& statistics) {
    NIBBLE_ASSIGN_OR_RETURN(EngineOptions engine_options, OptionsFor(RunMode()));
    engine_options.step_tokens = options_.chunks.context;
    engine_options.max_sequences = 1;
    engine_options.product_observer = &statistics;
    NIBBLE_ASSIGN_OR_RETURN(const std::unique_ptr<CpuEngine> engine,
                            EngineWithPages(engine_options, model_, kv::PagesFor(options_.chunks.context)));
    SoloSequence sequence(*engine, options_.chunks.context);
    out_.tokens = 0;
    for (size_t i = 0; i < chunks.size(); ++i) {
      progress_(absl::StrCat("texts for layers ", statistics.first(), " to ", statistics.end() - 1),
                static_cast<int64_t>(i), static_cast<int64_t>(chunks.size()));
      sequence.Rewind(0);
      sequence.Append(chunks[i], nullptr);
      out_.tokens += static_cast<int64_t>(chunks[i].size());
    }
    return absl::OkStatus();
  }

  absl::Status QuantizeLayer(int layer, ProductStatistics::Layer* statistics) {
    NIBBLE_RETURN_IF_ERROR(CheckEnergies(layer, statistics));
    Int8Inputs int8;
    for (const LayerProduct& product : LayerProducts()) {
      InputMoments* const moments =
          statistics == nullptr ? nullptr : &(*statistics)[static_cast<size_t>(product.product)];
      if (moments != nullptr && options_.activations == ActivationMode::kA4) {
        int8.*product.int8_inputs = LargestInputs(*moments);
      }
      std::vector<Tensor*> parts;
      for (const std::string_view part : product.parts) {
        Tensor& tensor = Find(absl::StrCat("blk.", layer, ".", std::string(part)));
        if (NeedsRounding(tensor)) parts.push_back(&tensor);
      }
      NIBBLE_RETURN_IF_ERROR(RoundParts(layer, parts, moments));
      if (moments != nullptr) *moments = {};
    }
    if (statistics != nullptr && options_.activations == ActivationMode::kA4) out_.int8_inputs.push_back(int8);
    return absl::OkStatus();
  }

  // A model may have weights that make no sense.
  static absl::Status CheckEnergies(int layer, const ProductStatistics::Layer* statistics) {
    if (statistics == nullptr) return absl::OkStatus();
    for (const InputMoments& moments : *statistics) {
      for (int64_t i = 0; i < moments.size; ++i) {
        if (std::isfinite(moments.energy(i))) continue;
        return absl::FailedPreconditionError(absl::StrCat("layer ", layer, ": the model's activations are not finite"));
      }
    }
    return absl::OkStatus();
  }

  absl::Status RoundParts(int layer, absl::Span<Tensor* const> parts, InputMoments* moments) {
    if (parts.empty()) return absl::OkStatus();
    const bool gptq = options_.weights == WeightMode::kW4 && moments != nullptr;
    if (gptq && !FactorHessian(moments->size, absl::MakeSpan(moments->sums))) {
      return absl::FailedPreconditionError(absl::StrCat("layer ", layer, ": the sums of its inputs are not finite"));
    }
    for (Tensor* tensor : parts) {
      if (gptq) {
        RoundByGptq(*moments, tensor);
      } else {
        RoundNearest(options_.weights == WeightMode::kW4 ? Encoding::kQ4_1 : Encoding::kQ8_0, tensor);
      }
    }
    return absl::OkStatus();
  }

  // Of more bits than asked for: others are groups of codes that the engine keeps.
  bool NeedsRounding(const Tensor& tensor) const {
    const int bits = FormatOf(tensor, GroupRounding::kAsInFile).bits;
    return !HasGroupCodes(tensor) || bits > (options_.weights == WeightMode::kW4 ? 4 : 8);
  }

  std::vector<int32_t> LargestInputs(const InputMoments& moments) const {
    std::vector<int32_t> order(static_cast<size_t>(moments.size));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](int32_t a, int32_t b) { return moments.energy(a) > moments.energy(b); });
    order.resize(static_cast<size_t>(moments.size / options_.int8_divisor));
    std::sort(order.begin(), order.end());
    return order;
  }

  Tensor& Find(const std::string& name) {
    return *std::find_if(out_.tensors.begin(), out_.tensors.end(), [&](const Tensor& t) { return t.name == name; });
  }

  // Makes room for the tensor in another encoding, and calls body(first row, rows, bytes of those rows) in parallel.
  template <typename Body>
  void Replace(Encoding encoding, Tensor* tensor, const Body& body) {
    Tensor rounded = *tensor;
    rounded.encoding = encoding;
    std::vector<std::byte>& bytes =
        out_.rounded.emplace_back(static_cast<size_t>(rounded.rows() * rounded.row_bytes()));
    rounded.data = bytes;
    pool_.ParallelFor((rounded.rows() + kRowsPerItem - 1) / kRowsPerItem, [&](int64_t item, int) {
      const int64_t first = item * kRowsPerItem, rows = std::min(kRowsPerItem, rounded.rows() - first);
      body(first, rows, bytes.data() + first * rounded.row_bytes());
    });
    *tensor = std::move(rounded);
  }

  void RoundByGptq(const InputMoments& moments, Tensor* tensor) {
    const Tensor source = *tensor;
    Replace(Encoding::kQ4_1, tensor, [&](int64_t first, int64_t rows, std::byte* blocks) {
      std::vector<float> values(static_cast<size_t>(rows * source.cols()));
      for (int64_t i = 0; i < rows; ++i) {
        DecodeRow(source, first + i, absl::MakeSpan(values).subspan(i * source.cols(), source.cols()));
      }
      RoundRowsGptq(values, source.cols(), moments.sums, blocks);
    });
  }

  void RoundNearest(Encoding encoding, Tensor* tensor) {
    const Tensor source = *tensor;
    const int64_t block_bytes = TraitsOf(encoding).block_bytes;
    Replace(encoding, tensor, [&](int64_t first, int64_t rows, std::byte* blocks) {
      std::vector<float> values(static_cast<size_t>(source.cols()));
      for (int64_t i = 0; i < rows; ++i) {
        DecodeRow(source, first + i, absl::MakeSpan(values));
        for (int64_t k = 0; k < source.cols(); k += kGroupSize, blocks += block_bytes) {
          WriteNearest(encoding, absl::MakeSpan(values).subspan(k, kGroupSize), blocks);
        }
      }
    });
  }

  static void WriteNearest(Encoding encoding, absl::Span<const float> group, std::byte* block) {
    int8_t codes[kGroupSize];
    float scale, min;
    if (encoding == Encoding::kQ4_1) {
      RoundGroupW4(group, codes, &scale, &min);
      WriteQ4_1(codes, scale, min, block);
    } else {
      RoundGroupW8(group, codes, &scale);
      WriteQ8_0(codes, scale, block);
    }
  }

  const OpenedModel& model_;
  const ModelConfig& config_;
  const QuantizeOptions& options_;
  const StageProgress& progress_;
  WorkerPool& pool_;
  QuantizedWeights out_;
};

absl::Status CheckModel(const ModelConfig& config) {
  for (const auto& [name, cols] : {std::pair("width", config.hidden_size), {"inner width", config.intermediate_size}}) {
    if (cols % kGroupSize == 0) continue;
    return absl::FailedPreconditionError(
        absl::StrCat("the model's ", name, " of ", cols, " is not a multiple of ", kGroupSize));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<QuantizedWeights> QuantizeWeights(const OpenedModel& model, absl::Span<const int32_t> ids,
                                                 const QuantizeOptions& options, const StageProgress& progress) {
  NIBBLE_RETURN_IF_ERROR(CheckModel(model.file.config));
  std::vector<std::vector<int32_t>> chunks;
  if (!ids.empty()) {
    const int64_t most = model.file.config.context_length;
    if (options.chunks.context > most) {
      return absl::InvalidArgumentError(
          absl::StrCat("--context=", options.chunks.context, ": is above the model's ", most));
    }
    NIBBLE_ASSIGN_OR_RETURN(chunks, SpreadChunks(ids, model.tokenizer->data(), options.chunks));
  }
  NIBBLE_ASSIGN_OR_RETURN(const std::unique_ptr<WorkerPool> pool, WorkerPool::Create(ThreadsFromFlags()));
  return Quantizer(model, options, progress, *pool).Run(chunks);
}

}  // namespace nibble::engine
