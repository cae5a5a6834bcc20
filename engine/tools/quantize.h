// A model's weights rounded ahead of time, and the inputs chosen that stay int8 where activations have 4 bits.
#ifndef NIBBLE_ENGINE_TOOLS_QUANTIZE_H_
#define NIBBLE_ENGINE_TOOLS_QUANTIZE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/tools/calibrate.h"
#include "engine/tools/chunks.h"
#include "engine/tools/opened_model.h"

namespace nibble::engine {

struct QuantizeOptions {
  WeightMode weights = WeightMode::kW4;              // or kW8
  ActivationMode activations = ActivationMode::kA4;  // or kA8
  ChunkOptions chunks;                               // of the calibration text, spread evenly over it
  int64_t int8_divisor = 8;                          // of kA4: one input in so many stays int8
  int64_t statistics_bytes = int64_t{1} << 30;       // at once, or one layer's if that is more
};

struct QuantizedWeights {
  // All of the model's, and a smoothed head that was tied; data in `rounded` or still in the model file.
  std::vector<Tensor> tensors;
  std::deque<std::vector<std::byte>> rounded;
  std::vector<Int8Inputs> int8_inputs;  // [layers], or empty
  int64_t tokens = 0;                   // of the text that were run
};

// Whether a calibration text is used to smooth inputs (engine/quant/smoothing.h), which are then rotated too
// (engine/quant/rotation.h): 8 bits of both. The vectors of the
// norms and the rows of the up projection change with the weights, and a tied head gets weights of its own.
inline bool Smooths(const QuantizeOptions& options) {
  return options.weights == WeightMode::kW8 && options.activations == ActivationMode::kA8;
}

// Matrices of the layers become Q4_1 (kW4) or Q8_0 (kW8), the others Q8_0 wherever they have more than 8 bits. What a
// file has in groups of as few bits is not rounded again, unless its inputs are smoothed: then it becomes H8_0. `ids`,
// of the calibration text, may be empty: then weights are rounded to the nearest, no input is chosen and none smoothed;
// otherwise weights of the layers, and of a smoothed head, are rounded by engine/quant/gptq.h.
//
// A function of the model, the ids and the options. INVALID_ARGUMENT for a text or a context that is too short or more
// than the model's; FAILED_PRECONDITION for a model whose activations are not finite.
absl::StatusOr<QuantizedWeights> QuantizeWeights(const OpenedModel& model, absl::Span<const int32_t> ids,
                                                 const QuantizeOptions& options, const StageProgress& progress);

// The command's own run.
absl::Status RunQuantize(const std::vector<std::string>& positionals);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_TOOLS_QUANTIZE_H_
