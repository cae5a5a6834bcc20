#include "engine/weights/model_file.h"

#include <filesystem>
#include <utility>

#include "engine/weights/config_gguf.h"
#include "engine/weights/folder_hf.h"
#include "engine/weights/gguf.h"
#include "engine/weights/gguf_source.h"
#include "engine/weights/mapped_file.h"
#include "engine/weights/quantized_file.h"
#include "engine/weights/tokenizer_gguf.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {

absl::StatusOr<ModelFile> ParseModelFile(absl::Span<const std::byte> bytes, std::shared_ptr<const void> owner) {
  if (LooksLikeSafetensors(bytes)) return ParseQuantized(bytes, std::move(owner));
  NIBBLE_ASSIGN_OR_RETURN(const GgufFile file, GgufFile::Parse(bytes));
  ModelFile model;
  NIBBLE_ASSIGN_OR_RETURN(model.config, ConfigFromGguf(file));
  NIBBLE_ASSIGN_OR_RETURN(model.tokenizer, TokenizerFromGguf(file, model.config.vocab_size));
  model.weights = MakeGgufSource(file, std::move(owner));
  return model;
}

absl::StatusOr<ModelFile> OpenModelFile(const std::string& path) {
  std::error_code error;
  if (std::filesystem::is_directory(path, error)) return OpenModelFolder(path);
  NIBBLE_ASSIGN_OR_RETURN(const std::shared_ptr<const MappedFile> file, MappedFile::Open(path));
  return ParseModelFile(file->bytes(), file);
}

}  // namespace nibble::engine
