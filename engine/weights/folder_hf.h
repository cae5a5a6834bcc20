// A Hugging Face checkpoint folder as a model: config.json, tokenizer.json and safetensors files, of which the last may
// be one (model.safetensors) or many (model.safetensors.index.json); if they are there, tokenizer_config.json,
// chat_template.jinja and generation_config.json too. Other files are not read.
#ifndef NIBBLE_ENGINE_WEIGHTS_FOLDER_HF_H_
#define NIBBLE_ENGINE_WEIGHTS_FOLDER_HF_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "engine/weights/model_file.h"

namespace nibble::engine {

// Most bytes of a file that is read into memory; the safetensors files are mapped.
inline constexpr uint64_t kMaxConfigBytes = 1 << 20;  // config.json, generation_config.json
inline constexpr uint64_t kMaxTokenizerConfigBytes = 8 << 20;
inline constexpr uint64_t kMaxTokenizerBytes = 64 << 20;  // Gemma 3's has 33 MB
inline constexpr uint64_t kMaxShardIndexBytes = 16 << 20;

// FAILED_PRECONDITION names the file and the field of what is wrong; other errors are the system's.
absl::StatusOr<ModelFile> OpenModelFolder(const std::string& path);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_WEIGHTS_FOLDER_HF_H_
