// ModelConfig from the config.json of a Hugging Face folder.
#ifndef NIBBLE_ENGINE_WEIGHTS_CONFIG_HF_H_
#define NIBBLE_ENGINE_WEIGHTS_CONFIG_HF_H_

#include "absl/status/statusor.h"
#include "engine/weights/json_document.h"
#include "engine/weights/model_config.h"

namespace nibble::engine {

// `rope_interleaved` is that of the architecture in GGUF files: a reader of tensors brings the rows of Q and K in that
// order. FAILED_PRECONDITION names the key for: a model type that is not known; a key that is missing, of the wrong
// type or out of range; a key that changes the answer in a way that is not implemented. Keys of other names are
// ignored.
absl::StatusOr<ModelConfig> ConfigFromHf(const JsonDocument& config);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_WEIGHTS_CONFIG_HF_H_
