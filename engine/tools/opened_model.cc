#include "engine/tools/opened_model.h"

#include <limits>
#include <utility>

#include "absl/flags/flag.h"
#include "absl/strings/str_cat.h"
#include "engine/quant/calibration/calibration_file.h"
#include "engine/tools/flags.h"
#include "engine/weights/checked.h"
#include "engine/weights/fingerprint.h"
#include "kvcache/base/status_macros.h"
#include "kvcache/codecs/codec.h"

namespace nibble::engine {
namespace {

absl::Status LoadCalibrations(const std::string& path, OpenedModel* model) {
  NIBBLE_ASSIGN_OR_RETURN(const CalibrationFile file, ReadCalibrationFor(path, ModelSha256(*model->file.weights)));
  for (const std::string& name : CodecsFromFlags()) {
    const kv::Codec* const codec = kv::FindCodec(name);
    if (codec == nullptr || !codec->calibrated || model->calibrations.contains(name)) continue;
    NIBBLE_ASSIGN_OR_RETURN(model->calibrations[name], CodecOf(file, name, path));
  }
  return absl::OkStatus();
}

absl::Status AddDelta(const std::string& path, OpenedModel* model) {
  const WeightSource& base = *model->file.weights;
  NIBBLE_ASSIGN_OR_RETURN(DeltaFile delta, ReadDelta(path));
  NIBBLE_RETURN_IF_ERROR(CheckDelta(delta, base, ModelSha256(base)));
  model->delta = std::make_unique<const DeltaFile>(std::move(delta));
  model->merged = std::make_unique<const ModelFile>(
      ModelFile{model->file.config, TokenizerData(), MergedWeights(base, *model->delta)});
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<OpenedModel> OpenModel(const std::string& path) {
  OpenedModel model;
  model.path = path;
  NIBBLE_ASSIGN_OR_RETURN(model.file, OpenModelFile(path));
  NIBBLE_ASSIGN_OR_RETURN(model.tokenizer, Tokenizer::Create(model.file.tokenizer));
  return model;
}

absl::StatusOr<OpenedModel> OpenNamed(const char* flag, const std::string& path) {
  NIBBLE_RETURN_IF_ERROR(RequireText(flag, path));
  absl::StatusOr<OpenedModel> model = OpenModel(path);
  if (model.ok()) return model;
  return absl::Status(model.status().code(), absl::StrCat("--", flag, ": ", model.status().message()));
}

absl::StatusOr<OpenedModel> OpenModelFromFlags() {
  NIBBLE_ASSIGN_OR_RETURN(OpenedModel model, OpenModel(absl::GetFlag(FLAGS_model)));
  const std::string path = absl::GetFlag(FLAGS_kv_calibration);
  if (!path.empty()) NIBBLE_RETURN_IF_ERROR(LoadCalibrations(path, &model));
  const std::string adapter = absl::GetFlag(FLAGS_adapter);
  if (!adapter.empty()) NIBBLE_RETURN_IF_ERROR(AddDelta(adapter, &model));
  return model;
}

int64_t KvBytes(const OpenedModel& model, const std::string& codec, int64_t pages) {
  const ModelConfig& config = model.file.config;
  const Checked heads = Checked(static_cast<uint64_t>(config.num_layers)) * static_cast<uint64_t>(config.num_kv_heads);
  const kv::Codec& found = *kv::FindCodec(codec);
  const auto head_bytes = static_cast<uint64_t>(found.raw_form(simd::Isa::kScalar).head_bytes(config.head_dim));
  const uint64_t forms = found.create == nullptr ? 1 : 2;
  const Checked bytes = heads * head_bytes * static_cast<uint64_t>(pages) * forms;
  constexpr int64_t kMost = std::numeric_limits<int64_t>::max();
  return bytes.FitsIn(kMost) ? static_cast<int64_t>(bytes.value()) : kMost;
}

absl::StatusOr<std::unique_ptr<CpuEngine>> EngineWithPages(EngineOptions options, const OpenedModel& model,
                                                           int64_t pages) {
  options.kv_pages = pages;
  const auto calibration = model.calibrations.find(options.kv_codec);
  if (calibration != model.calibrations.end()) options.calibration = calibration->second;
  if (model.delta == nullptr || options.weights != WeightMode::kF32) return CreateEngine(options, model.file);
  return CreateEngine(options, *model.merged);
}

absl::StatusOr<std::unique_ptr<const Adapter>> AdapterFor(const CpuEngine& engine, const EngineOptions& options,
                                                          const OpenedModel& model) {
  if (model.delta == nullptr || options.weights == WeightMode::kF32) return nullptr;
  return engine.LoadAdapter(*model.delta, [] {});
}

}  // namespace nibble::engine
