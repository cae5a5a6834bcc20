// Any bytes as the config.json of a model folder. What is accepted keeps what ModelConfig promises.
#include <cmath>
#include <cstdint>
#include <string_view>

#include "engine/weights/config_hf.h"
#include "kvcache/base/check.h"

namespace nibble::engine {
namespace {

void CheckConfig(const ModelConfig& config) {
  for (const int64_t size : {config.context_length, config.vocab_size, config.hidden_size, config.intermediate_size,
                             config.num_layers, config.num_kv_heads}) {
    NIBBLE_CHECK(size > 0);
  }
  NIBBLE_CHECK(config.num_heads % config.num_kv_heads == 0);
  NIBBLE_CHECK(config.head_dim > 0 && config.head_dim <= kMaxHeadDim);
  NIBBLE_CHECK(config.rope_dims == config.head_dim && config.rope_dims % 2 == 0);
  NIBBLE_CHECK(config.rope_factors.empty() || static_cast<int64_t>(config.rope_factors.size()) == config.rope_dims / 2);
  for (const float factor : config.rope_factors) NIBBLE_CHECK(std::isfinite(factor) && factor > 0);
  for (const float number :
       {config.rope_base, config.rope_base_local, config.rope_linear_factor, config.attention_scale}) {
    NIBBLE_CHECK(std::isfinite(number) && number > 0);
  }
}

void Read(std::string_view text) {
  const auto document = JsonDocument::Parse(text, "config.json");
  if (!document.ok()) return;
  const auto config = ConfigFromHf(*document);
  if (config.ok()) CheckConfig(*config);
}

}  // namespace
}  // namespace nibble::engine

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  nibble::engine::Read({reinterpret_cast<const char*>(data), size});
  return 0;
}
