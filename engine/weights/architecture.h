// The architectures that model files may have, by the name that GGUF files and models/model.cc use: one table.
#ifndef NIBBLE_ENGINE_WEIGHTS_ARCHITECTURE_H_
#define NIBBLE_ENGINE_WEIGHTS_ARCHITECTURE_H_

#include <string_view>

namespace nibble::engine {

// Bits of sets of architectures.
inline constexpr unsigned kLlama = 1, kQwen2 = 2, kQwen3 = 4, kGemma3 = 8;
inline constexpr unsigned kAllArchitectures = kLlama | kQwen2 | kQwen3 | kGemma3;

struct Architecture {
  std::string_view name;
  unsigned bit;
  bool rope_interleaved;  // rows of Q and K are in the order of pairs that rotate together, (0,1), (2,3), …
};

inline constexpr Architecture kArchitectures[] = {
    {"llama", kLlama, true},
    {"qwen2", kQwen2, false},
    {"qwen3", kQwen3, false},
    {"gemma3", kGemma3, false},
};

// nullptr for a name that is not in the table.
constexpr const Architecture* FindArchitecture(std::string_view name) {
  for (const Architecture& architecture : kArchitectures) {
    if (architecture.name == name) return &architecture;
  }
  return nullptr;
}

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_WEIGHTS_ARCHITECTURE_H_
