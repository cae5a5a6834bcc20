// What a request may ask of the sampler. All values are proven by admission; the sampler validates nothing.
#ifndef NIBBLE_ENGINE_SAMPLING_PARAMS_H_
#define NIBBLE_ENGINE_SAMPLING_PARAMS_H_

#include <cstdint>
#include <utility>
#include <vector>

namespace nibble::engine {

struct SamplingParams {
  float temperature = 1.0f;                           // 0 (or below 1e-5): greedy; ties break to the lower token id
  float top_p = 1.0f;                                 // (0, 1]; 1 is off
  int32_t top_k = 0;                                  // 0 is off
  float min_p = 0.0f;                                 // [0, 1]; 0 is off; relative to the most likely token
  float repetition_penalty = 1.0f;                    // (0, 2]; over prompt and generated tokens; 1 is off
  float presence_penalty = 0.0f;                      // [-2, 2]; over generated tokens
  float frequency_penalty = 0.0f;                     // [-2, 2]; over generated tokens
  std::vector<std::pair<int32_t, float>> logit_bias;  // token id -> added to its logit; ids below the vocabulary
  uint64_t seed = 0;
  int32_t logprobs = -1;  // -1: none; 0: the sampled token's; k: and the k most likely ones' (k <= 20)
};

struct TokenLogprob {
  int32_t id = 0;
  float logprob = 0.0f;  // natural log of softmax over the model's raw logits (before temperature and penalties)
};

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_SAMPLING_PARAMS_H_
