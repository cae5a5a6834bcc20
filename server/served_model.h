// The one model that a daemon serves, as the server sees it. Immutable while serving; any thread may read it.
#ifndef NIBBLE_SERVER_SERVED_MODEL_H_
#define NIBBLE_SERVER_SERVED_MODEL_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/grammar/compiler.h"
#include "engine/kv_memory.h"
#include "engine/tokenizer/chat_template.h"
#include "engine/tokenizer/tokenizer.h"
#include "engine/weights/model_file.h"
#include "server/adapter_registry.h"

namespace nibble::server {

struct ServedModel {
  std::string name;
  std::string architecture;
  std::string kv_codec;
  double kv_bits = 16.0;  // per element of a sealed page, with all parameters
  engine::KvCosts kv_costs;
  int64_t workspace_bytes = 0;              // of the engine's steps
  std::unique_ptr<engine::ModelFile> file;  // the engine reads from it
  std::unique_ptr<engine::Tokenizer> tokenizer;
  // Or why the model cannot chat: its file has no template, or one that is not supported.
  absl::StatusOr<std::unique_ptr<engine::ChatTemplate>> chat_template = absl::NotFoundError("no chat template");
  std::unique_ptr<engine::grammar::Compiler> grammars;  // over the tokenizer's vocabulary
  std::unique_ptr<engine::Engine> engine;               // driven by the serving loop alone
  std::unique_ptr<AdapterRegistry> adapters;            // nullptr: the model alone is served
};

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_SERVED_MODEL_H_
