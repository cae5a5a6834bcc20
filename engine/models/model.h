// A decoder-only transformer written in a backend's verbs.
#ifndef NIBBLE_ENGINE_MODELS_MODEL_H_
#define NIBBLE_ENGINE_MODELS_MODEL_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/adapters/delta_file.h"
#include "engine/backends/backend.h"
#include "engine/models/attention_observer.h"
#include "engine/models/model_delta.h"
#include "engine/models/product_observer.h"
#include "engine/weights/model_config.h"
#include "engine/weights/weight_source.h"

namespace nibble::engine {

struct ModelLoadOptions {
  WeightMode weights = WeightMode::kFile;
  ActivationMode activations = ActivationMode::kA8;
  int64_t max_rows = 0;                         // tokens of the largest batch
  int64_t max_logit_rows = 0;                   // rows that one call of Logits may ask for
  AttentionObserver* observer = nullptr;        // told of every layer's attention; needs a backend in the host's memory
  ProductObserver* product_observer = nullptr;  // told of every product's inputs; the same need
};

// One batch: the rows of all sequences, one after another.
struct Batch {
  absl::Span<const int32_t> ids;
  absl::Span<const SequenceRows> sequences;
  absl::Span<const AdaptedRows> adapted = {};  // in order, without overlap; all other rows run on the model alone
};

// What one token costs, for `nibble bench` and its roofline.
struct ModelCost {
  int64_t layer_weight_bytes = 0;  // as packed, read once per step
  int64_t head_weight_bytes = 0;   // read once per step that makes logits
  int64_t layer_macs = 0;          // matrix products of one token, attention aside
  int64_t head_macs = 0;           // of one row of logits
};

class Model {
 public:
  virtual ~Model() = default;

  // `source` must outlive the model: the embedding is read from it. UNIMPLEMENTED for an architecture that is not in
  // the table; RESOURCE_EXHAUSTED if memory ends.
  static absl::StatusOr<std::unique_ptr<Model>> Load(const ModelConfig& config, const WeightSource& source,
                                                     Backend& backend, const ModelLoadOptions& options);

  // A fine-tune of this model. Any thread, also while a batch runs; calls `pause` between pieces of the work. REQUIRES:
  // CheckDelta was OK for the model's source, and the model rounds its activations. RESOURCE_EXHAUSTED if memory ends;
  // FAILED_PRECONDITION for a rotated model (CheckNotRotated).
  virtual absl::StatusOr<std::unique_ptr<const ModelDelta>> LoadDelta(const DeltaFile& file,
                                                                      absl::FunctionRef<void()> pause) const = 0;

  // Runs all layers over the batch; K and V go into the pages. REQUIRES: at most max_rows ids.
  virtual void Forward(const Batch& batch) = 0;
  // The logits of rows of the last Forward, [rows.size(), vocab_size], valid until the next call. REQUIRES: at most
  // max_logit_rows rows, in order.
  virtual View Logits(absl::Span<const int64_t> rows) = 0;

  virtual const ModelConfig& config() const = 0;
  virtual ModelCost cost() const = 0;
};

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_MODELS_MODEL_H_
