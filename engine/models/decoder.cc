#include "engine/models/decoder.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kvcache/base/check.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {

Decoder::Decoder(const ModelConfig& config, const WeightSource& source, Backend& backend,
                 const ModelLoadOptions& options)
    : config_(config), source_(source), backend_(backend), options_(options) {
  shape_ = {static_cast<int>(config.num_heads), static_cast<int>(config.num_kv_heads),
            static_cast<int>(config.head_dim)};
  rope_shape_ = {static_cast<int>(config.rope_dims), config.rope_interleaved, config_.rope_factors};
}

// The loader proved that every tensor an architecture requires is there, with its shape.
const Tensor* Decoder::Find(const std::string& name) const {
  const Tensor* tensor = source_.Find(name);
  NIBBLE_CHECK(tensor != nullptr);
  return tensor;
}

const Tensor* Decoder::FindLayer(int index, std::string_view part) const {
  return Find(absl::StrCat("blk.", index, ".", std::string(part)));
}

std::vector<const Tensor*> Decoder::PartsOf(int index, Product product) const {
  std::vector<const Tensor*> parts;
  for (const std::string_view part : RowOf(product).parts) parts.push_back(FindLayer(index, part));
  return parts;
}

// A matrix that is loaded again takes the memory of the one before, freed first.
absl::Status Decoder::LoadProduct(int index, Product product, Layer& layer) {
  absl::Span<const int32_t> int8_inputs;
  if (!config_.int8_inputs.empty()) int8_inputs = config_.int8_inputs[index].*RowOf(product).int8_inputs;
  std::unique_ptr<Matrix>& matrix = layer.matrix(product);
  matrix.reset();
  NIBBLE_ASSIGN_OR_RETURN(
      matrix, backend_.LoadMatrix(PartsOf(index, product), options_.weights, {options_.activations, int8_inputs}));
  return absl::OkStatus();
}

// What 4 bits would cost the logits, nothing after the head mends: its inputs are int8.
absl::StatusOr<std::unique_ptr<Matrix>> Decoder::LoadHead(const Tensor* head) {
  const bool a4 = options_.activations == ActivationMode::kA4;
  return backend_.LoadMatrix({head}, options_.weights, {a4 ? ActivationMode::kA8 : options_.activations});
}

absl::Span<const float> Decoder::LoadVector(const std::vector<const Tensor*>& parts, bool is_bias) {
  vectors_.push_back({parts, is_bias, backend_.LoadVector(parts)});
  return vectors_.back().values;
}

absl::Span<const float> Decoder::LayerNorm(int index, std::string_view part) {
  return LoadVector({FindLayer(index, absl::StrCat(std::string(part), ".weight"))}, /*is_bias=*/false);
}

absl::Span<const float> Decoder::LayerQkvBias(int index) {
  return LoadVector({FindLayer(index, "attn_q.bias"), FindLayer(index, "attn_k.bias"), FindLayer(index, "attn_v.bias")},
                    /*is_bias=*/true);
}

absl::Status Decoder::Load() {
  embedding_ = Find("token_embd.weight");
  output_norm_ = LoadVector({Find("output_norm.weight")}, /*is_bias=*/false);
  head_tensor_ = config_.tied_embeddings ? embedding_ : Find("output.weight");
  NIBBLE_ASSIGN_OR_RETURN(head_, LoadHead(head_tensor_));
  layers_.resize(config_.num_layers);
  for (int i = 0; i < config_.num_layers; ++i) {
    NIBBLE_RETURN_IF_ERROR(LoadCommon(i, layers_[i]));
    NIBBLE_RETURN_IF_ERROR(LoadLayer(i, layers_[i]));
  }
  NIBBLE_ASSIGN_OR_RETURN(global_rope_, MakeRope(config_.rope_base, config_.rope_linear_factor));
  return AllocateViews();
}

absl::Status Decoder::LoadCommon(int index, Layer& layer) {
  layer.attention_norm = LayerNorm(index, "attn_norm");
  layer.mlp_norm = LayerNorm(index, "ffn_norm");
  for (const LayerProduct& row : LayerProducts()) NIBBLE_RETURN_IF_ERROR(LoadProduct(index, row.product, layer));
  return absl::OkStatus();
}

absl::StatusOr<Decoder::Rope> Decoder::MakeRope(double base, double linear_factor) {
  Rope rope{base, linear_factor, {}};
  NIBBLE_ASSIGN_OR_RETURN(rope.angles, backend_.AllocateView(options_.max_rows, config_.rope_dims));
  return rope;
}

absl::Status Decoder::AllocateViews() {
  const int64_t heads = config_.num_heads + 2 * config_.num_kv_heads;
  const std::pair<View*, int64_t> views[] = {
      {&all_x_, config_.hidden_size},
      {&all_normed_, config_.hidden_size},
      {&all_qkv_, heads * config_.head_dim},
      {&all_attended_, config_.num_heads * config_.head_dim},
      {&all_gate_up_, 2 * config_.intermediate_size},
      {&all_gated_, config_.intermediate_size},
      {&all_branch_, config_.hidden_size},
  };
  for (const auto& [view, cols] : views) {
    NIBBLE_ASSIGN_OR_RETURN(*view, backend_.AllocateView(options_.max_rows, cols));
  }
  NIBBLE_ASSIGN_OR_RETURN(head_input_, backend_.AllocateView(options_.max_logit_rows, config_.hidden_size));
  NIBBLE_ASSIGN_OR_RETURN(logits_, backend_.AllocateView(options_.max_logit_rows, config_.vocab_size));
  return absl::OkStatus();
}

void Decoder::Forward(const Batch& batch) {
  const int64_t rows = static_cast<int64_t>(batch.ids.size());
  NIBBLE_CHECK(rows <= options_.max_rows);
  sequences_ = batch.sequences;
  adapted_ = batch.adapted;
  const std::pair<View*, View*> cuts[] = {{&x_, &all_x_},
                                          {&normed_, &all_normed_},
                                          {&qkv_, &all_qkv_},
                                          {&attended_, &all_attended_},
                                          {&gate_up_, &all_gate_up_},
                                          {&gated_, &all_gated_},
                                          {&branch_, &all_branch_}};
  for (const auto& [cut, whole] : cuts) *cut = whole->Rows(0, rows);
  Embed(batch.ids);
  PrepareRopes();
  for (current_layer_ = 0; current_layer_ < config_.num_layers; ++current_layer_) {
    RunLayer(current_layer_, layers_[current_layer_]);
  }
  ShowHead();
}

View Decoder::Logits(absl::Span<const int64_t> rows) {
  const int64_t count = static_cast<int64_t>(rows.size());
  NIBBLE_CHECK(count <= options_.max_logit_rows);
  const View input = head_input_.Rows(0, count), logits = logits_.Rows(0, count);
  const absl::Span<const AdaptedRows> adapted = AdaptedLogits(rows);
  backend_.Gather(x_, rows, input);
  Norm(input, output_norm_, adapted, input);
  const auto head_of = [](const ModelDelta& delta) { return delta.head.get(); };
  backend_.MatMul(input, *head_, {}, DeltasOf(adapted, head_of), Epilogue::kStore, logits);
  if (config_.final_logit_softcap > 0) backend_.SoftCap(config_.final_logit_softcap, logits);
  return logits;
}

void Decoder::PrepareRopes() { PrepareRope(global_rope_); }

void Decoder::PrepareRope(Rope& rope) {
  backend_.RopeAngles(sequences_, rope_shape_, rope.base, rope.linear_factor, rope.angles);
}

void Decoder::Norm(View x, absl::Span<const float> weight, absl::Span<const AdaptedRows> adapted, View out) {
  ForNorms(adapted, x.rows, weight, [&](int64_t first, int64_t count, absl::Span<const float> own) {
    backend_.Norm(x.Rows(first, count), own, config_.rms_epsilon, out.Rows(first, count));
  });
}

void Decoder::NormInput(absl::Span<const float> weight) { Norm(x_, weight, adapted_, normed_); }

void Decoder::ShowProduct(Product product, View input) {
  if (options_.product_observer == nullptr) return;
  const std::vector<const Tensor*> parts = PartsOf(current_layer_, product);
  if (!options_.product_observer->OnProduct({current_layer_, product, parts, input})) return;
  NIBBLE_CHECK(LoadProduct(current_layer_, product, layers_[current_layer_]).ok());
}

void Decoder::ShowHead() {
  if (options_.product_observer == nullptr) return;
  NormInput(output_norm_);
  options_.product_observer->OnHead(normed_);
}

void Decoder::Multiply(View x, Product product, const Layer& layer, Epilogue epilogue, View out) {
  ShowProduct(product, x);
  const auto delta_of = [&](const ModelDelta& delta) {
    return delta.layers[static_cast<size_t>(current_layer_)][static_cast<size_t>(product)].get();
  };
  const absl::Span<const float> bias = product == Product::kQkv ? layer.qkv_bias : absl::Span<const float>();
  backend_.MatMul(x, *layer.matrix(product), bias, DeltasOf(adapted_, delta_of), epilogue, out);
}

void Decoder::ProjectQkv(const Layer& layer) {
  Multiply(normed_, Product::kQkv, layer, Epilogue::kStore, qkv_);
  AddBiases(layer.qkv_bias);
}

void Decoder::NormQueriesKeys(const Layer& layer) {
  const auto norm_heads = [&](int64_t first_col, int heads, absl::Span<const float> weight) {
    ForNorms(adapted_, qkv_.rows, weight, [&](int64_t first, int64_t count, absl::Span<const float> own) {
      backend_.NormHeads(qkv_.Rows(first, count), first_col, heads, own, config_.rms_epsilon);
    });
  };
  norm_heads(0, shape_.num_heads, layer.query_norm);
  norm_heads(static_cast<int64_t>(shape_.num_heads) * shape_.head_dim, shape_.num_kv_heads, layer.key_norm);
}

void Decoder::Attend(int index, const Rope& rope, int64_t window) {
  const float scale =
      config_.attention_scale > 0 ? config_.attention_scale : 1.0f / std::sqrt(static_cast<float>(config_.head_dim));
  backend_.RopeStoreKv(sequences_, shape_, rope_shape_, rope.angles, index, qkv_);
  const float softcap = config_.attention_logit_softcap;
  backend_.Attend(sequences_, shape_, index, scale, window, softcap, qkv_, attended_);
  if (options_.observer != nullptr) {
    options_.observer->OnAttention({index, sequences_, shape_, scale, window, softcap, x_, qkv_, attended_});
  }
}

void Decoder::ProjectAttention(const Layer& layer, Epilogue epilogue) {
  Multiply(attended_, Product::kAttentionOutput, layer, epilogue, epilogue == Epilogue::kAdd ? x_ : branch_);
}

void Decoder::GatedMlp(const Layer& layer, Activation activation, Epilogue epilogue) {
  Multiply(normed_, Product::kGateUp, layer, Epilogue::kStore, gate_up_);
  backend_.GatedAct(activation, gate_up_, gated_);
  Multiply(gated_, Product::kDown, layer, epilogue, epilogue == Epilogue::kAdd ? x_ : branch_);
}

void Decoder::AddNormed(absl::Span<const float> weight) {
  Norm(branch_, weight, adapted_, branch_);
  backend_.Add(x_, branch_, x_);
}

ModelCost Decoder::cost() const {
  ModelCost cost;
  for (const Layer& layer : layers_) {
    for (const std::unique_ptr<Matrix>& matrix : layer.matrices) {
      cost.layer_weight_bytes += matrix->bytes();
      cost.layer_macs += matrix->rows() * matrix->cols();
    }
  }
  cost.head_weight_bytes = head_->bytes();
  cost.head_macs = head_->rows() * head_->cols();
  return cost;
}

}  // namespace nibble::engine
