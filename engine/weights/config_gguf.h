// ModelConfig from the keys `<architecture>.*` of a GGUF file, proven against its tensors.
#ifndef NIBBLE_ENGINE_WEIGHTS_CONFIG_GGUF_H_
#define NIBBLE_ENGINE_WEIGHTS_CONFIG_GGUF_H_

#include "absl/status/statusor.h"
#include "engine/weights/gguf.h"
#include "engine/weights/model_config.h"

namespace nibble::engine {

// FAILED_PRECONDITION names the key or tensor and its offset for: an architecture that is not known; a key that is
// missing, of the wrong type or out of range; a key or a tensor that changes the answer in a way not implemented
// (experts, YaRN, biases, …); a required tensor that is absent; a shape that is not the table's (tensor_table.h).
// Tensors of other names, outside the layers, are ignored.
absl::StatusOr<ModelConfig> ConfigFromGguf(const GgufFile& file);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_WEIGHTS_CONFIG_GGUF_H_
