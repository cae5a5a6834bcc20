// Scales of sign deltas from what a layer's inputs really are: with X the inputs of a matrix, D its difference and S
// the signs, alpha = <X D, X S> / ||X S||^2 is the scale with which X S is nearest to X D. Forward passes only, no
// gradient. X comes from the model as already compressed: a matrix is fitted just before its first product, and
// computes with its fitted scales from then on.
#ifndef NIBBLE_ENGINE_TOOLS_SCALE_FITTER_H_
#define NIBBLE_ENGINE_TOOLS_SCALE_FITTER_H_

#include <cstdint>
#include <functional>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "engine/adapters/delta_file.h"
#include "engine/backends/cpu/worker_pool.h"
#include "engine/models/product_observer.h"
#include "engine/tools/chunks.h"
#include "engine/tools/opened_model.h"

namespace nibble::engine {

// Thread: the observer's.
class ScaleFitter : public ProductObserver {
 public:
  // All must outlive it.
  ScaleFitter(const WeightSource& base, const WeightSource& tuned, DeltaFile* delta, WorkerPool& pool,
              std::function<void(int64_t done, int64_t all)> progress);

  // REQUIRES: all inputs of a matrix in one call.
  bool OnProduct(const ObservedProduct& observed) override;

  // FAILED_PRECONDITION, naming the tensor, if a scale is not finite.
  const absl::Status& status() const { return status_; }

 private:
  void Fit(const Tensor& base, const Tensor& tuned, View x, SignDelta* delta);
  void FitPlane(const Tensor& base, const Tensor& tuned, View x, int64_t plane, SignDelta* delta);

  const WeightSource& base_;
  const WeightSource& tuned_;
  DeltaFile* const delta_;
  WorkerPool& pool_;
  const std::function<void(int64_t done, int64_t all)> progress_;
  int64_t done_ = 0;
  absl::Status status_;
};

// Fits the scales of `delta` on chunks of a text, all of which run in one step, in f32. A plane and row, or matrix,
// whose signs the inputs do not see keeps its scale. INVALID_ARGUMENT for a text that fills no chunk; otherwise
// ScaleFitter's.
absl::Status FitScales(const OpenedModel& base, const WeightSource& tuned, absl::Span<const int32_t> ids,
                       const ChunkOptions& chunks, const std::function<void(int64_t done, int64_t all)>& progress,
                       DeltaFile* delta);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_TOOLS_SCALE_FITTER_H_
