#include "server/load_model.h"

#include <filesystem>
#include <utility>

#include "engine/weights/model_file.h"
#include "kvcache/base/status_macros.h"

namespace nibble::server {

absl::StatusOr<std::unique_ptr<ServedModel>> LoadModel(const LoadOptions& options) {
  auto model = std::make_unique<ServedModel>();
  NIBBLE_ASSIGN_OR_RETURN(engine::ModelFile file, engine::OpenModelFile(options.path));
  model->file = std::make_unique<engine::ModelFile>(std::move(file));
  model->name = options.served_name.empty() ? std::filesystem::path(options.path).stem().string() : options.served_name;
  model->architecture = model->file->config.architecture;
  model->kv_codec = options.engine.kv_codec;
  model->chat_template = engine::ChatTemplate::Compile(model->file->tokenizer);
  NIBBLE_ASSIGN_OR_RETURN(model->tokenizer, engine::Tokenizer::Create(model->file->tokenizer));
  NIBBLE_ASSIGN_OR_RETURN(std::unique_ptr<engine::CpuEngine> engine,
                          engine::CreateEngine(options.engine, *model->file));
  model->kv_bits = engine->kv_bits();
  model->kv_costs = engine->kv_costs();
  model->engine = std::move(engine);
  return model;
}

}  // namespace nibble::server
