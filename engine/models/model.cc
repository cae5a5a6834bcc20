#include "engine/models/model.h"

#include "absl/strings/str_cat.h"
#include "engine/models/decoder.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

struct Architecture {
  const char* name;
  std::unique_ptr<Decoder> (*make)(const ModelConfig&, const WeightSource&, Backend&, const ModelLoadOptions&);
};

// One row per architecture.
constexpr Architecture kArchitectures[] = {
    {"llama", MakeLlama},
    {"qwen2", MakeQwen2},
    {"qwen3", MakeQwen3},
    {"gemma3", MakeGemma3},
};

}  // namespace

absl::StatusOr<std::unique_ptr<Model>> Model::Load(const ModelConfig& config, const WeightSource& source,
                                                   Backend& backend, const ModelLoadOptions& options) {
  for (const Architecture& architecture : kArchitectures) {
    if (config.architecture != architecture.name) continue;
    std::unique_ptr<Decoder> decoder = architecture.make(config, source, backend, options);
    NIBBLE_RETURN_IF_ERROR(decoder->Load());
    return decoder;
  }
  return absl::UnimplementedError(absl::StrCat("architecture '", config.architecture, "' is not supported"));
}

}  // namespace nibble::engine
