// Chooses the next token of a sequence from its logits.
//
// Order: repetition, frequency and presence penalties; logit bias; bans; the grammar; temperature; min-p; top-k; top-p,
// each filter over what the one before it left; one draw. Candidates are ranked by logit, ties by lower id. Greedy
// (temperature below 1e-5) is the first of that ranking. Logprobs are of the raw logits.
//
// The result is a function of the logits and the request alone: sums have a fixed order, the exponential is the
// kernels' own, the draw is Philox keyed by the seed and the number of generated tokens (law 1).
//
// Cost, for a vocabulary of n: greedy two passes; plain temperature two passes and one block; filters collect the
// candidates above a threshold that is lowered until they suffice (one pass each, usually one or two), then select
// among those in linear time. Nothing sorts the vocabulary.
//
// Thread: one thread per Sampler at a time (it owns scratch); different Samplers are independent.
#ifndef NIBBLE_ENGINE_SAMPLING_SAMPLER_H_
#define NIBBLE_ENGINE_SAMPLING_SAMPLER_H_

#include <cstdint>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "engine/engine.h"
#include "engine/sampling/vocab_passes.h"
#include "kvcache/simd/isa.h"

namespace nibble::engine {

class Sampler {
 public:
  Sampler(simd::Isa isa, int64_t vocab_size);

  // False for a row with a NaN or an infinite logit: its sequence has faulted and nothing below may be asked of it.
  bool AllFinite(absl::Span<const float> logits) const { return passes_.all_finite(logits); }

  // Draws one id. `logits` [vocab_size] are changed during the call and restored before it returns. If every id is
  // masked by bias or ban, the result is id 0; where the request's grammar leaves none that is not banned, or its mask
  // takes too long to make, -1. REQUIRES: AllFinite(logits); ids in the request below vocab_size; biases
  // finite or -infinity.
  int32_t Sample(absl::Span<float> logits, const SampleRequest& request);

  // Of `id`, and of the `top` most likely ids. REQUIRES: AllFinite(logits); 0 <= top <= vocab_size.
  Logprobs LogprobsOf(absl::Span<const float> logits, int32_t id, int32_t top);

 private:
  int32_t SampleAllowed(absl::Span<const float> logits, const SampleRequest& request, double uniform);
  void Adjust(absl::Span<float> logits, const SampleRequest& request);
  void Repeat(absl::Span<float> logits, const SampleRequest& request);
  void CountGenerated(absl::Span<float> logits, const SampleRequest& request);
  float& Change(absl::Span<float> logits, int32_t id);
  void Restore(absl::Span<float> logits);
  int32_t Draw(absl::Span<const float> logits, const SamplingParams& params, double uniform);
  int32_t DrawFromAll(absl::Span<const float> logits, float max, float scale, double uniform);
  int32_t DrawFromFiltered(absl::Span<const float> logits, float max, const SamplingParams& params, double uniform);
  void CollectTop(absl::Span<const float> logits, float max, float step, size_t count);
  void CollectMinP(absl::Span<const float> logits, float max, float scale, float min_p);
  void CollectMass(absl::Span<const float> logits, float max, float scale, double mass);
  void SetWeights(float max, float scale);
  double ExpTotal(absl::Span<const float> logits, float max, float scale);

  const VocabPasses& passes_;
  // Scratch, kept to spare the allocator.
  std::vector<std::pair<int32_t, float>> changed_;  // id and raw logit, in order of change
  std::vector<uint64_t> allowed_;                   // by the grammar, a bit for each id
  std::vector<float> masked_;                       // logits of those, -infinity else
  std::vector<int32_t> counts_;                     // by id; all zero between calls
  std::vector<float> block_sums_;
  std::vector<float> block_;
  std::vector<Candidate> candidates_;  // in order of id
  std::vector<Candidate> ranked_;
};

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_SAMPLING_SAMPLER_H_
