// A model file opened for a command: its weights, its tokenizer, and engines made from it.
#ifndef NIBBLE_ENGINE_TOOLS_OPENED_MODEL_H_
#define NIBBLE_ENGINE_TOOLS_OPENED_MODEL_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/adapters/delta_file.h"
#include "engine/cpu_engine.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/weights/model_file.h"

namespace nibble::engine {

struct OpenedModel {
  std::string path;
  ModelFile file;
  std::unique_ptr<Tokenizer> tokenizer;
  std::map<std::string, std::shared_ptr<const kv::Calibration>> calibrations;  // by codec
  // Of a fine-tune that the model runs with, or nullptr; and the model with it added, without a tokenizer.
  std::unique_ptr<const DeltaFile> delta;
  std::unique_ptr<const ModelFile> merged;
};

// Errors are OpenModelFile's and Tokenizer::Create's; a path that cannot be opened is one of wrong usage.
absl::StatusOr<OpenedModel> OpenModel(const std::string& path);

// The same for a model that a flag other than --model names: errors begin with it.
absl::StatusOr<OpenedModel> OpenNamed(const char* flag, const std::string& path);

// The model of --model, with the calibrations of --kv-calibration that the codecs of --kv need, and the fine-tune of
// --adapter. A calibration file is proven, and held against the model, even where no codec needs it.
absl::StatusOr<OpenedModel> OpenModelFromFlags();

// What `pages` pages of a codec and their raw forms take at most, for all layers; the largest int64_t where it is more.
// REQUIRES: the codec is in the table; pages >= 0.
int64_t KvBytes(const OpenedModel& model, const std::string& codec, int64_t pages);

// An engine whose cache holds `pages` pages, with its codec's calibration. `model` must outlive it.
absl::StatusOr<std::unique_ptr<CpuEngine>> EngineWithPages(EngineOptions options, const OpenedModel& model,
                                                           int64_t pages);

// The model's fine-tune for an engine made from it; nullptr where it has none, or where the weights are floats, which
// EngineWithPages has added it to.
absl::StatusOr<std::unique_ptr<const Adapter>> AdapterFor(const CpuEngine& engine, const EngineOptions& options,
                                                          const OpenedModel& model);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_TOOLS_OPENED_MODEL_H_
