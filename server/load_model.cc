#include "server/load_model.h"

#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/adapters/delta_file.h"
#include "engine/quant/calibration/calibration_file.h"
#include "engine/weights/fingerprint.h"
#include "engine/weights/model_file.h"
#include "kvcache/base/status_macros.h"
#include "kvcache/codecs/codec.h"
#include "server/monotonic_clock.h"

namespace nibble::server {
namespace {

// nullptr where the codec needs none.
absl::StatusOr<std::shared_ptr<const kv::Calibration>> CalibrationFor(const LoadOptions& options,
                                                                      const std::string& model_sha256) {
  if (options.kv_calibration.empty()) return nullptr;
  const kv::Codec* const codec = kv::FindCodec(options.engine.kv_codec);
  if (codec != nullptr && codec->calibrated) {
    return engine::LoadCalibration(options.kv_calibration, codec->name, model_sha256);
  }
  NIBBLE_RETURN_IF_ERROR(engine::ReadCalibrationFor(options.kv_calibration, model_sha256).status());
  return nullptr;
}

// A file's without its extension; a folder's as it is, for what looks like an extension is part of it ("Qwen2.5-0.5B").
std::string NameOf(const std::filesystem::path& path) {
  if (!std::filesystem::is_directory(path)) return path.stem().string();
  const std::filesystem::path folder = std::filesystem::absolute(path).lexically_normal();
  return (folder.has_filename() ? folder : folder.parent_path()).filename().string();
}

// From the bytes of a delta file. `engine` and `base` must outlive the loader.
AdapterRegistry::Load LoaderFor(const engine::CpuEngine& engine, const engine::WeightSource& base,
                                const std::string& base_sha256) {
  return [&engine, &base, base_sha256](
             absl::Span<const std::byte> bytes,
             absl::FunctionRef<void()> pause) -> absl::StatusOr<std::unique_ptr<const engine::Adapter>> {
    NIBBLE_ASSIGN_OR_RETURN(const engine::DeltaFile delta, engine::ParseDelta(bytes, pause));
    NIBBLE_RETURN_IF_ERROR(engine::CheckDelta(delta, base, base_sha256));
    return engine.LoadAdapter(delta, pause);
  };
}

absl::Status OpenAdapters(const LoadOptions& options, const engine::CpuEngine& engine, const std::string& model_sha256,
                          ServedModel* model) {
  if (options.engine.activations == engine::ActivationMode::kF32) {
    return absl::InvalidArgumentError("--adapters: activations f32 run none");
  }
  if (const absl::Status status = engine::CheckNotRotated(*model->file->weights); !status.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("--adapters: ", status.message()));
  }
  NIBBLE_ASSIGN_OR_RETURN(AdapterFolder folder, AdapterFolder::Open(options.adapters));
  model->adapters = std::make_unique<AdapterRegistry>(
      std::move(folder), options.adapter_memory_bytes, LoaderFor(engine, *model->file->weights, model_sha256),
      [&engine] { return engine.busy(); }, MonotonicNow);
  for (const std::string& name : options.pinned_adapters) {
    if (!IsAdapterName(name)) return absl::InvalidArgumentError("--pinned-adapters: '" + name + "' is no name");
    const absl::Status loaded = model->adapters->LoadNow(name, /*pinned=*/true).status();
    if (!loaded.ok())
      return absl::Status(loaded.code(), absl::StrCat("--pinned-adapters: ", name, ": ", loaded.message()));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::unique_ptr<ServedModel>> LoadModel(const LoadOptions& options) {
  auto model = std::make_unique<ServedModel>();
  NIBBLE_ASSIGN_OR_RETURN(engine::ModelFile file, engine::OpenModelFile(options.path));
  model->file = std::make_unique<engine::ModelFile>(std::move(file));
  model->name = options.served_name.empty() ? NameOf(options.path) : options.served_name;
  model->architecture = model->file->config.architecture;
  model->kv_codec = options.engine.kv_codec;
  model->chat_template = engine::ChatTemplate::Compile(model->file->tokenizer);
  NIBBLE_ASSIGN_OR_RETURN(model->tokenizer, engine::Tokenizer::Create(model->file->tokenizer));
  engine::EngineOptions engine_options = options.engine;
  std::string model_sha256;  // it takes reading all weights
  if (!options.kv_calibration.empty() || !options.adapters.empty()) {
    model_sha256 = engine::ModelSha256(*model->file->weights);
  }
  NIBBLE_ASSIGN_OR_RETURN(engine_options.calibration, CalibrationFor(options, model_sha256));
  NIBBLE_ASSIGN_OR_RETURN(std::unique_ptr<engine::CpuEngine> engine,
                          engine::CreateEngine(engine_options, *model->file));
  model->kv_bits = engine->kv_bits();
  model->kv_costs = engine->kv_costs();
  model->workspace_bytes = engine->workspace_bytes();
  if (!options.adapters.empty()) NIBBLE_RETURN_IF_ERROR(OpenAdapters(options, *engine, model_sha256, model.get()));
  model->grammars = std::make_unique<engine::grammar::Compiler>(*model->tokenizer, engine->vocab_size());
  model->engine = std::move(engine);
  return model;
}

}  // namespace nibble::server
