// The tensors of a GGUF file as a WeightSource.
#ifndef NIBBLE_ENGINE_WEIGHTS_GGUF_SOURCE_H_
#define NIBBLE_ENGINE_WEIGHTS_GGUF_SOURCE_H_

#include <memory>

#include "engine/weights/gguf.h"
#include "engine/weights/weight_source.h"

namespace nibble::engine {

// `owner` keeps alive the bytes that `file` was parsed from; nullptr if the caller does.
std::unique_ptr<WeightSource> MakeGgufSource(const GgufFile& file, std::shared_ptr<const void> owner);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_WEIGHTS_GGUF_SOURCE_H_
