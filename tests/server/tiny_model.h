// A model for tests of the server: one token per byte, a ChatML template, a scripted engine.
#ifndef NIBBLE_TESTS_SERVER_TINY_MODEL_H_
#define NIBBLE_TESTS_SERVER_TINY_MODEL_H_

#include <memory>

#include "engine/tokenizer/data.h"
#include "server/served_model.h"
#include "tests/server/scripted_engine.h"

namespace nibble::server {

// Control tokens after the 256 byte tokens. Byte b is token b.
inline constexpr int32_t kImStart = 256;
inline constexpr int32_t kImEnd = 257;
inline constexpr int32_t kEndOfText = 258;

engine::TokenizerData TinyTokenizerData();

// "tiny". `engine`, if not null, receives the engine inside.
std::unique_ptr<ServedModel> TinyModel(const ScriptedEngineOptions& options, ScriptedEngine** engine);

}  // namespace nibble::server

#endif  // NIBBLE_TESTS_SERVER_TINY_MODEL_H_
