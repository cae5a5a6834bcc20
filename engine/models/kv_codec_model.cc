#include "engine/models/kv_codec_model.h"

#include "engine/backends/rope_frequencies.h"

namespace nibble::engine {

kv::CodecModel CodecModelOf(const ModelConfig& config) {
  const RopeShape shape = {static_cast<int>(config.rope_dims), config.rope_interleaved, config.rope_factors};
  kv::CodecModel model;
  model.num_layers = static_cast<int>(config.num_layers);
  model.num_kv_heads = static_cast<int>(config.num_kv_heads);
  model.head_dim = static_cast<int>(config.head_dim);
  model.max_pages = kv::PagesFor(config.context_length);
  model.ropes = {{shape.interleaved, RopeFrequencies(shape, config.rope_base, config.rope_linear_factor)},
                 {shape.interleaved, RopeFrequencies(shape, config.rope_base_local, 1.0)}};
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    model.rope_of_layer.push_back(config.IsLocal(layer) ? 1 : 0);
  }
  return model;
}

}  // namespace nibble::engine
