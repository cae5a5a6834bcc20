// Opens a model, a GGUF file or a Hugging Face folder, and proves it before anything is allocated for it.
#ifndef NIBBLE_ENGINE_WEIGHTS_MODEL_FILE_H_
#define NIBBLE_ENGINE_WEIGHTS_MODEL_FILE_H_

#include <cstddef>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/tokenizer/data.h"
#include "engine/weights/model_config.h"
#include "engine/weights/weight_source.h"

namespace nibble::engine {

struct ModelFile {
  ModelConfig config;
  TokenizerData tokenizer;
  std::unique_ptr<WeightSource> weights;  // owns the mappings
};

// A folder is a checkpoint (folder_hf.h), a file a GGUF file. FAILED_PRECONDITION names the field and the offset of
// what is wrong; NOT_FOUND, PERMISSION_DENIED and the like come from the system.
absl::StatusOr<ModelFile> OpenModelFile(const std::string& path);
// A GGUF file from memory. `owner` keeps `bytes` alive for as long as the weights are; nullptr if the caller does.
absl::StatusOr<ModelFile> ParseModelFile(absl::Span<const std::byte> bytes, std::shared_ptr<const void> owner);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_WEIGHTS_MODEL_FILE_H_
