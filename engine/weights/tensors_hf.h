// The tensors of a Hugging Face checkpoint as a WeightSource: under GGUF's names, in GGUF's order of rows.
#ifndef NIBBLE_ENGINE_WEIGHTS_TENSORS_HF_H_
#define NIBBLE_ENGINE_WEIGHTS_TENSORS_HF_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/weights/model_config.h"
#include "engine/weights/safetensors.h"
#include "engine/weights/weight_source.h"

namespace nibble::engine {

struct HfShard {
  std::string file;  // its name, for errors
  SafetensorsFile tensors;
};

// Matrices point into the shards' data, BF16, F16 or F32 as they are; vectors are copied as F32, as GGUF files have
// them (and with the 1 that Gemma's norms add to their weights). So a checkpoint and the GGUF file that is its plain
// conversion have one ModelSha256. `owner` keeps alive what the shards were parsed from; nullptr if the caller does.
//
// FAILED_PRECONDITION names the tensor and its shard: one that the architecture requires is missing, a shape is not the
// table's (tensor_table.h), an element type is none of the three, two shards hold one name, or a tensor is not known.
absl::StatusOr<std::unique_ptr<WeightSource>> WeightsFromHf(const ModelConfig& config, absl::Span<const HfShard> shards,
                                                            std::shared_ptr<const void> owner);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_WEIGHTS_TENSORS_HF_H_
