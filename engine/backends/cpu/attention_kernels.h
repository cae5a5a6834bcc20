// The float passes of attention between a codec's scores and its mix. All targets give the same bits.
#ifndef NIBBLE_ENGINE_BACKENDS_CPU_ATTENTION_KERNELS_H_
#define NIBBLE_ENGINE_BACKENDS_CPU_ATTENTION_KERNELS_H_

#include <cstdint>

#include "kvcache/simd/isa.h"

namespace nibble::engine {

// A running softmax-weighted sum over positions: exp(score - maximum) summed, and the values so mixed.
struct SoftmaxState {
  float maximum;
  float sum;
};

// What two mixes are worth when they join.
struct JoinFactors {
  float running;
  float next;
};

struct AttentionKernels {
  // Over scores[first, last) of `n` (a multiple of 16): turns them into exp(score - maximum) and everything outside
  // into 0. The sum runs in sixteen virtual lanes and one fixed tree. REQUIRES: first < last.
  SoftmaxState (*softmax)(float* scores, int64_t n, int64_t first, int64_t last);
  // Joins the state of the next segment into the running one.
  JoinFactors (*join)(SoftmaxState& state, const SoftmaxState& next);
  // Joins the mixes: mixed = mixed * factors.running + next * factors.next. n: a multiple of 16.
  void (*blend)(const JoinFactors& factors, int64_t n, float* mixed, const float* next);
  // out = mixed / sum.
  void (*finish)(const SoftmaxState& state, const float* mixed, int64_t n, float* out);
};

const AttentionKernels& AttentionKernelsFor(simd::Isa isa);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_BACKENDS_CPU_ATTENTION_KERNELS_H_
