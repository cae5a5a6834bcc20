// What the architectures share: loading by tensor name, the working memory, and the named steps of a layer. An
// architecture is a file that says which steps make its layer and in which order.
#ifndef NIBBLE_ENGINE_MODELS_DECODER_H_
#define NIBBLE_ENGINE_MODELS_DECODER_H_

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/functional/function_ref.h"
#include "engine/models/model.h"

namespace nibble::engine {

class Decoder : public Model {
 public:
  Decoder(const ModelConfig& config, const WeightSource& source, Backend& backend, const ModelLoadOptions& options);

  // Loads what every architecture has, then LoadLayer for each layer.
  absl::Status Load();

  absl::StatusOr<std::unique_ptr<const ModelDelta>> LoadDelta(const DeltaFile& file,
                                                              absl::FunctionRef<void()> pause) const override;
  void Forward(const Batch& batch) override;
  View Logits(absl::Span<const int64_t> rows) override;
  const ModelConfig& config() const override { return config_; }
  ModelCost cost() const override;

 protected:
  struct Layer {
    std::array<std::unique_ptr<Matrix>, kNumProducts> matrices;  // by Product
    absl::Span<const float> attention_norm, mlp_norm;
    absl::Span<const float> qkv_bias;                            // or empty
    absl::Span<const float> query_norm, key_norm;                // or empty: per head
    absl::Span<const float> post_attention_norm, post_mlp_norm;  // or empty

    std::unique_ptr<Matrix>& matrix(Product product) { return matrices[static_cast<size_t>(product)]; }
    const std::unique_ptr<Matrix>& matrix(Product product) const { return matrices[static_cast<size_t>(product)]; }
  };
  // One rotary embedding: its frequencies, and the angles of the current batch.
  struct Rope {
    double base = 0.0;
    double linear_factor = 1.0;
    View angles;
  };

  // The architecture: which tensors a layer has beside the common ones, and its steps.
  virtual absl::Status LoadLayer(int index, Layer& layer) = 0;
  virtual void RunLayer(int index, const Layer& layer) = 0;

  // For LoadLayer. `part` is the middle of "blk.<index>.<part>.weight".
  absl::Span<const float> LayerNorm(int index, std::string_view part);
  absl::Span<const float> LayerQkvBias(int index);

  // Steps of a layer. x_ is the residual stream; each step says what it reads and writes.
  void NormInput(absl::Span<const float> weight);                // normed_ = norm(x_)
  void ProjectQkv(const Layer& layer);                           // qkv_ = normed_ * qkv^T (+ bias)
  void NormQueriesKeys(const Layer& layer);                      // q and k of qkv_, head by head
  void Attend(int index, const Rope& rope, int64_t window);      // attended_ = attention(rope(qkv_)); K, V stored
  void ProjectAttention(const Layer& layer, Epilogue epilogue);  // x_ += attended_ * output^T, or into branch_
  void GatedMlp(const Layer& layer, Activation activation, Epilogue epilogue);  // x_ += mlp(normed_), or into branch_
  void AddNormed(absl::Span<const float> weight);                               // x_ += norm(branch_)

  const ModelConfig& config() { return config_; }
  Rope& global_rope() { return global_rope_; }
  // For architectures with a second rotary embedding. Before Load.
  absl::StatusOr<Rope> MakeRope(double base, double linear_factor);
  void set_embedding_scale(float scale) { embedding_scale_ = scale; }
  // Angles for the batch at hand; Forward calls it for the global one.
  virtual void PrepareRopes();
  void PrepareRope(Rope& rope);

 private:
  const Tensor* Find(const std::string& name) const;
  const Tensor* FindLayer(int index, std::string_view part) const;
  std::vector<const Tensor*> PartsOf(int index, Product product) const;
  absl::Status LoadProduct(int index, Product product, Layer& layer);
  absl::StatusOr<std::unique_ptr<Matrix>> LoadHead(const Tensor* head);
  absl::Status LoadCommon(int index, Layer& layer);
  absl::Span<const float> LoadVector(const std::vector<const Tensor*>& parts, bool is_bias);
  // Before the product, in the current layer.
  void ShowProduct(Product product, View input);
  // After the last layer.
  void ShowHead();
  absl::Status AllocateViews();
  void Multiply(View x, Product product, const Layer& layer, Epilogue epilogue, View out);
  void Norm(View x, absl::Span<const float> weight, absl::Span<const AdaptedRows> adapted, View out);

  // decoder_delta.cc
  absl::StatusOr<std::unique_ptr<MatrixDelta>> LoadMatrixDelta(const DeltaFile& file,
                                                               absl::Span<const Tensor* const> parts,
                                                               absl::FunctionRef<void()> pause) const;
  void Embed(absl::Span<const int32_t> ids);
  static absl::Span<const float> NormOf(const ModelDelta* delta, absl::Span<const float> weight);
  // Calls norm(first_row, num_rows, weight) for all rows; once where no fine-tune has a norm of its own there.
  static void ForNorms(absl::Span<const AdaptedRows> adapted, int64_t rows, absl::Span<const float> weight,
                       absl::FunctionRef<void(int64_t, int64_t, absl::Span<const float>)> norm);
  // Valid until the next call.
  absl::Span<const DeltaRows> DeltasOf(absl::Span<const AdaptedRows> adapted,
                                       absl::FunctionRef<const MatrixDelta*(const ModelDelta&)> of);
  void AddBiases(absl::Span<const float> bias);
  // Of the last batch's, those that the rows of logits run with, as rows of logits.
  absl::Span<const AdaptedRows> AdaptedLogits(absl::Span<const int64_t> rows);

  const ModelConfig config_;
  const WeightSource& source_;
  Backend& backend_;
  const ModelLoadOptions options_;
  AttentionShape shape_;
  RopeShape rope_shape_;
  float embedding_scale_ = 1.0f;

  // A norm's or a bias's, as loaded.
  struct LoadedVector {
    std::vector<const Tensor*> parts;
    bool is_bias;
    absl::Span<const float> values;
  };

  const Tensor* embedding_ = nullptr;
  const Tensor* head_tensor_ = nullptr;
  std::vector<LoadedVector> vectors_;
  absl::Span<const float> output_norm_;
  std::unique_ptr<Matrix> head_;
  std::vector<Layer> layers_;
  int current_layer_ = 0;  // that Forward is at

  Rope global_rope_;
  // Working memory for max_rows rows; the views below are cut to the batch's rows.
  View all_x_, all_normed_, all_qkv_, all_attended_, all_gate_up_, all_gated_, all_branch_, head_input_, logits_;
  View x_, normed_, qkv_, attended_, gate_up_, gated_, branch_;
  absl::Span<const SequenceRows> sequences_;
  absl::Span<const AdaptedRows> adapted_;
  std::vector<AdaptedRows> adapted_logits_;
  std::vector<DeltaRows> delta_rows_;
};

// Constructors of the architectures; the table is in model.cc.
std::unique_ptr<Decoder> MakeLlama(const ModelConfig&, const WeightSource&, Backend&, const ModelLoadOptions&);
std::unique_ptr<Decoder> MakeQwen2(const ModelConfig&, const WeightSource&, Backend&, const ModelLoadOptions&);
std::unique_ptr<Decoder> MakeQwen3(const ModelConfig&, const WeightSource&, Backend&, const ModelLoadOptions&);
std::unique_ptr<Decoder> MakeGemma3(const ModelConfig&, const WeightSource&, Backend&, const ModelLoadOptions&);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_MODELS_DECODER_H_
