#include "engine/tools/quantize.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/backends/cpu/worker_pool.h"
#include "engine/quant/gptq.h"
#include "engine/quant/rotation.h"
#include "engine/quant/smoothing.h"
#include "engine/quant/weight_groups.h"
#include "engine/tools/product_statistics.h"
#include "engine/tools/solo_sequence.h"
#include "engine/tools/tensor_rounder.h"
#include "engine/weights/layer_products.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

// Of an array by Product.
template <typename Array>
auto& Of(Product product, Array& array) {
  return array[static_cast<size_t>(product)];
}

std::vector<double> EnergiesOf(const InputMoments& moments) {
  std::vector<double> energies(static_cast<size_t>(moments.size));
  for (int64_t i = 0; i < moments.size; ++i) energies[static_cast<size_t>(i)] = moments.energy(i);
  return energies;
}

class Quantizer {
 public:
  Quantizer(const OpenedModel& model, const QuantizeOptions& options, const StageProgress& progress, WorkerPool& pool)
      : model_(model),
        config_(model.file.config),
        options_(options),
        progress_(progress),
        pool_(pool),
        encoding_(options.weights == WeightMode::kW4 ? Encoding::kQ4_1 : Encoding::kQ8_0),
        rounder_(pool, out_.rounded) {}

  absl::StatusOr<QuantizedWeights> Run(absl::Span<const std::vector<int32_t>> chunks) {
    for (const Tensor& tensor : model_.file.weights->tensors()) out_.tensors.push_back(tensor);
    const auto layers = static_cast<int>(config_.num_layers);
    const int at_once = chunks.empty() ? layers : LayersAtOnce();
    std::optional<ProductStatistics> statistics;
    for (int first = 0; first < layers; first += at_once) {
      const int end = std::min(layers, first + at_once);
      if (!chunks.empty()) {
        const bool with_head = Smooths(options_) && end == layers;
        statistics.emplace(first, end, with_head, simd::SupportedIsas().back(), pool_);
        NIBBLE_RETURN_IF_ERROR(Read(chunks, *statistics));
      }
      for (int layer = first; layer < end; ++layer) {
        progress_("layers", layer, layers);
        NIBBLE_RETURN_IF_ERROR(QuantizeLayer(layer, statistics.has_value() ? &statistics->layer(layer) : nullptr));
      }
    }
    NIBBLE_RETURN_IF_ERROR(QuantizeOthers(statistics.has_value() ? &statistics->head() : nullptr));
    return std::move(out_);
  }

 private:
  int LayersAtOnce() const {
    const auto bytes_of = [](int64_t inputs) {
      return sizeof(float) * static_cast<double>(inputs) * static_cast<double>(inputs);
    };
    double of_layer = 0.0;
    for (const LayerProduct& product : LayerProducts()) of_layer += bytes_of(product.cols(config_));
    const double of_head = Smooths(options_) ? bytes_of(config_.hidden_size) : 0.0;
    return std::max(1, static_cast<int>((static_cast<double>(options_.statistics_bytes) - of_head) / of_layer));
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
    const InputScales scales =
        statistics != nullptr && Smooths(options_) ? SmoothLayer(layer, *statistics) : InputScales();
    Int8Inputs int8;
    for (const LayerProduct& product : LayerProducts()) {
      InputMoments* const moments = statistics == nullptr ? nullptr : &Of(product.product, *statistics);
      if (moments != nullptr && options_.activations == ActivationMode::kA4) {
        int8.*product.int8_inputs = LargestInputs(*moments);
      }
      NIBBLE_RETURN_IF_ERROR(QuantizeProduct(layer, product, scales, moments));
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

  // The scales of each product's inputs, by Product; empty where it has none. The norms before them are divided here.
  // The down projection's inputs are what the up projection makes, gated. The attention's output has none: its inputs
  // are mixed from the cache, whose codecs are calibrated for values as they are.
  using InputScales = std::array<std::vector<float>, kNumProducts>;

  InputScales SmoothLayer(int layer, const ProductStatistics::Layer& statistics) {
    InputScales scales;
    for (const Product product : {Product::kQkv, Product::kGateUp, Product::kDown}) {
      std::vector<const Tensor*> parts;
      for (const std::string_view part : RowOf(product).parts) parts.push_back(&FindLayer(layer, part));
      Of(product, scales) = ScalesFor(parts, Of(product, statistics));
    }
    rounder_.Divide(Of(Product::kQkv, scales), &FindLayer(layer, "attn_norm.weight"));
    rounder_.Divide(Of(Product::kGateUp, scales), &FindLayer(layer, "ffn_norm.weight"));
    return scales;
  }

  static std::vector<float> ScalesFor(absl::Span<const Tensor* const> parts, const InputMoments& moments) {
    std::vector<double> weights(static_cast<size_t>(moments.size), 0.0);
    for (const Tensor* part : parts) AddColumnEnergies(*part, absl::MakeSpan(weights));
    return SmoothingScales(EnergiesOf(moments), weights);
  }

  absl::Status QuantizeProduct(int layer, const LayerProduct& product, const InputScales& scales,
                               InputMoments* moments) {
    const absl::Span<const float> inputs = Of(product.product, scales);
    std::vector<std::string_view> parts;
    for (const std::string_view part : product.parts) {
      if (!inputs.empty() || NeedsRounding(FindLayer(layer, part))) parts.push_back(part);
    }
    if (parts.empty()) return absl::OkStatus();
    if (moments != nullptr) {
      NIBBLE_RETURN_IF_ERROR(Factor(absl::StrCat("layer ", layer, ", ", std::string(product.name)), inputs, moments));
    }
    for (const std::string_view part : parts) {
      const absl::Span<const float> outputs =
          part == kUpProjection ? absl::MakeConstSpan(Of(Product::kDown, scales)) : absl::Span<const float>();
      Round(moments, {inputs, outputs}, &FindLayer(layer, part));
    }
    return absl::OkStatus();
  }

  // Of a matrix whose inputs have these scales. Smoothed inputs are rotated as well: their matrices are rounded anew
  // anyhow, while those of the attention's output keep what codes they have.
  Encoding EncodingFor(absl::Span<const float> scales) const { return scales.empty() ? encoding_ : Encoding::kH8_0; }

  // `moments` become those of the inputs that the rounded matrix meets, and then their factor.
  absl::Status Factor(const std::string& where, absl::Span<const float> scales, InputMoments* moments) const {
    const absl::Span<float> sums = absl::MakeSpan(moments->sums);
    if (!scales.empty()) DivideMoments(scales, sums);
    if (EncodingFor(scales) == Encoding::kH8_0) RotateMoments(moments->size, sums);
    if (FactorHessian(moments->size, sums)) return absl::OkStatus();
    return absl::FailedPreconditionError(
        absl::StrCat(where, ": the sums of its inputs' products have no Cholesky factor: not finite, or too unequal"));
  }

  // `moments`, factored, may be nullptr.
  void Round(const InputMoments* moments, const FoldedScales& scales, Tensor* tensor) {
    if (moments == nullptr) return rounder_.Nearest(encoding_, scales, tensor);
    rounder_.Gptq(EncodingFor(scales.inputs), moments->sums, scales, tensor);
  }

  // What does not belong to a layer. A head whose inputs are smoothed has weights of its own.
  absl::Status QuantizeOthers(InputMoments* head_moments) {
    if (head_moments != nullptr && Smooths(options_)) NIBBLE_RETURN_IF_ERROR(SmoothHead(*head_moments));
    for (Tensor& tensor : out_.tensors) {
      const bool matrix = tensor.name == "token_embd.weight" || tensor.name == "output.weight";
      if (matrix && !HasGroupCodes(tensor)) rounder_.Nearest(Encoding::kQ8_0, {}, &tensor);
    }
    return absl::OkStatus();
  }

  absl::Status SmoothHead(InputMoments& moments) {
    if (config_.tied_embeddings) {
      Tensor head = Find("token_embd.weight");
      head.name = "output.weight";
      out_.tensors.push_back(std::move(head));
    }
    Tensor& head = Find("output.weight");
    const std::vector<float> scales = ScalesFor({&head}, moments);
    NIBBLE_RETURN_IF_ERROR(Factor(head.name, scales, &moments));
    rounder_.Divide(scales, &Find("output_norm.weight"));
    Round(&moments, {scales, {}}, &head);
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
  Tensor& FindLayer(int layer, std::string_view part) {
    return Find(absl::StrCat("blk.", layer, ".", std::string(part)));
  }

  const OpenedModel& model_;
  const ModelConfig& config_;
  const QuantizeOptions& options_;
  const StageProgress& progress_;
  WorkerPool& pool_;
  const Encoding encoding_;  // of the layers' matrices whose inputs are not smoothed
  QuantizedWeights out_;
  TensorRounder rounder_;
};

absl::Status CheckModel(const ModelConfig& config) {
  for (const LayerProduct& product : LayerProducts()) {
    const int64_t cols = product.cols(config);
    if (cols % kGroupSize == 0) continue;
    return absl::FailedPreconditionError(absl::StrCat("the model's product ", std::string(product.name), " has ", cols,
                                                      " inputs, not a multiple of ", kGroupSize));
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
