// From a model file and flags to something that serves: the one place that wires concrete classes.
#ifndef NIBBLE_SERVER_LOAD_MODEL_H_
#define NIBBLE_SERVER_LOAD_MODEL_H_

#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/cpu_engine.h"
#include "server/served_model.h"

namespace nibble::server {

struct LoadOptions {
  std::string path;
  std::string served_name;     // empty: the name of the file, without extension, or of the folder
  std::string kv_calibration;  // path; empty: none
  engine::EngineOptions engine;
  std::string adapters;  // folder of deltas; empty: none are served
  int64_t adapter_memory_bytes = 0;
  std::vector<std::string> pinned_adapters;  // loaded at once and never evicted
};

// Fails with what is wrong: the file, its tokenizer, the calibration (also where the codec needs none) or a combination
// of options that the model cannot have, the folder of adapters or one that is pinned.
absl::StatusOr<std::unique_ptr<ServedModel>> LoadModel(const LoadOptions& options);

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_LOAD_MODEL_H_
