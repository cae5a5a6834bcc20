// Passes over the logits of one row, the only work of the sampler that grows with the vocabulary. Compiled for every
// instruction set from one source over sixteen virtual lanes, with the same bits on each (law 1).
//
// Pure functions: any thread. Each reads the row once.
#ifndef NIBBLE_ENGINE_SAMPLING_VOCAB_PASSES_H_
#define NIBBLE_ENGINE_SAMPLING_VOCAB_PASSES_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "kvcache/simd/isa.h"

namespace nibble::engine {

// Ids whose exponentials are summed together: one lane sum per block, joined by one fixed tree.
inline constexpr int64_t kVocabBlock = 1024;

struct Candidate {
  int32_t id;
  float logit;
  float weight;  // exp((logit - max) / temperature); set by whoever needs it
};

struct VocabPasses {
  // Whether no logit is NaN or infinite.
  bool (*all_finite)(absl::Span<const float> logits);
  // The largest logit; -infinity takes part. REQUIRES: no NaN; not empty.
  float (*max)(absl::Span<const float> logits);
  // The lowest id with this logit, or -1.
  int64_t (*first_equal)(absl::Span<const float> logits, float value);
  // Appends the ids with logit >= threshold, in order of id.
  void (*collect)(absl::Span<const float> logits, float threshold, std::vector<Candidate>* out);
  // sums[b] = sum of exp((logit - max) * scale) over block b, for (size + kVocabBlock - 1) / kVocabBlock blocks.
  void (*exp_sums)(absl::Span<const float> logits, float max, float scale, float* sums);
  // out[i] = exp((logits[i] - max) * scale); exactly what exp_sums adds.
  void (*exponentials)(absl::Span<const float> logits, float max, float scale, float* out);
};

const VocabPasses& VocabPassesFor(simd::Isa isa);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_SAMPLING_VOCAB_PASSES_H_
