// A fine-tune as a loaded model takes it: its delta, on the model's device. Immutable; any number of batches and
// threads may hold it. Must not outlive the model.
#ifndef NIBBLE_ENGINE_MODELS_MODEL_DELTA_H_
#define NIBBLE_ENGINE_MODELS_MODEL_DELTA_H_

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "engine/adapters/weight_deltas.h"
#include "engine/backends/backend.h"
#include "engine/weights/layer_products.h"
#include "engine/weights/weight_source.h"

namespace nibble::engine {

struct ModelDelta {
  // By Product; nullptr where the fine-tune left the matrix alone.
  using LayerDeltas = std::array<std::unique_ptr<MatrixDelta>, kNumProducts>;

  std::vector<LayerDeltas> layers;
  std::unique_ptr<MatrixDelta> head;  // or nullptr
  // In place of the model's norms, and added to its biases: by where the model has its own.
  absl::flat_hash_map<const float*, std::vector<float>> norms, biases;
  // The model's table of embeddings with the delta on it.
  std::unique_ptr<CodeDelta> embedding_codes;
  std::optional<Tensor> embedding;
  int64_t bytes = 0;  // of all of it
};

// Rows of a batch that run with a fine-tune.
struct AdaptedRows {
  int64_t first_row = 0;
  int64_t num_rows = 0;
  const ModelDelta* delta = nullptr;
};

// Calls body(first_row, num_rows, delta) for all of `rows` rows in order, cut where the fine-tune changes; delta is
// nullptr where there is none. REQUIRES: `adapted` in order, without overlap, within `rows`.
template <typename Body>
void ForStretches(absl::Span<const AdaptedRows> adapted, int64_t rows, const Body& body) {
  int64_t row = 0;
  for (const AdaptedRows& run : adapted) {
    if (run.first_row > row) body(row, run.first_row - row, static_cast<const ModelDelta*>(nullptr));
    body(run.first_row, run.num_rows, run.delta);
    row = run.first_row + run.num_rows;
  }
  if (row < rows) body(row, rows - row, static_cast<const ModelDelta*>(nullptr));
}

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_MODELS_MODEL_DELTA_H_
