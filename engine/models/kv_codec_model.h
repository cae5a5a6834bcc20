// What a KV codec has to know of a model.
#ifndef NIBBLE_ENGINE_MODELS_KV_CODEC_MODEL_H_
#define NIBBLE_ENGINE_MODELS_KV_CODEC_MODEL_H_

#include "engine/weights/model_config.h"
#include "kvcache/codecs/codec.h"

namespace nibble::engine {

kv::CodecModel CodecModelOf(const ModelConfig& config);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_MODELS_KV_CODEC_MODEL_H_
