// A fine-tune and its base become a delta. One tensor at a time, one row of each model at a time: neither is ever whole
// in float.
#ifndef NIBBLE_ENGINE_ADAPTERS_COMPRESS_H_
#define NIBBLE_ENGINE_ADAPTERS_COMPRESS_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "engine/adapters/delta_file.h"
#include "engine/weights/weight_source.h"

namespace nibble::engine {

struct CompressOptions {
  int64_t planes = 1;          // 1 to kMaxSignPlanes; the second is of what the first leaves
  bool scale_per_row = false;  // otherwise per matrix
};

// Fills signs, codes and the hashes of the provenance. Projections become signs with scale = mean|delta|, all others
// codes; a tensor that the fine-tune left alone, up to the rounding of both to BF16, is not in the file. sign(0) is +.
// `progress` is told of tensors. FAILED_PRECONDITION, naming the tensor, where the two are not of one shape, a
// difference is not finite, or the base is rotated (CheckNotRotated).
absl::StatusOr<DeltaFile> CompressDelta(const WeightSource& base, const WeightSource& tuned,
                                        const CompressOptions& options,
                                        const std::function<void(int64_t done, int64_t all)>& progress);

// Signs and mean magnitudes of one plane, of what the planes before it leave. REQUIRES: equal shapes, delta's among
// them.
absl::Status FillPlane(const Tensor& base, const Tensor& tuned, int64_t plane, SignDelta* delta);

// What the planes before `plane` leave of the difference of one row. difference: [cols].
void PlaneTarget(const Tensor& base, const Tensor& tuned, int64_t plane, const SignDelta& delta, int64_t row,
                 absl::Span<float> difference);

// How much of the difference between two tensors a delta leaves: ||tuned - base - delta|| / ||tuned - base||; 0 where
// there is no difference. `delta` may be nullptr. REQUIRES: equal shapes.
double ResidualShare(const Tensor& base, const Tensor& tuned, const RowDelta* delta);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_ADAPTERS_COMPRESS_H_
