#include "engine/backends/cpu/attention_kernels.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kvcache/simd/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/backends/cpu/attention_kernels.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "hwy/highway.h"
#include "kvcache/simd/vec16-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nibble {
namespace engine {
namespace HWY_NAMESPACE {
namespace {

using namespace nibble::simd::HWY_NAMESPACE;  // NOLINT: the vector vocabulary of this target

SoftmaxState Softmax(float* scores, int64_t n, int64_t first, int64_t last) {
  constexpr float kHidden = -std::numeric_limits<float>::infinity();
  std::fill(scores, scores + first, kHidden);
  std::fill(scores + last, scores + n, kHidden);
  V16 largest = Load(scores);
  for (int64_t i = 16; i < n; i += 16) largest = Max(largest, Load(scores + i));
  const float maximum = MaxLanes16(largest);
  const V16 shift = Set(maximum);
  V16 sum = Zero();
  for (int64_t i = 0; i < n; i += 16) {
    const V16 weight = Exp(Sub(Load(scores + i), shift));
    Store(weight, scores + i);
    sum = Add(sum, weight);
  }
  return {maximum, SumLanes(sum)};
}

JoinFactors Join(SoftmaxState& state, const SoftmaxState& next) {
  const float maximum = std::max(state.maximum, next.maximum);
  HWY_ALIGN float shifts[16] = {state.maximum - maximum, next.maximum - maximum};
  HWY_ALIGN float factors[16];
  Store(Exp(Load(shifts)), factors);
  state.sum = std::fma(state.sum, factors[0], next.sum * factors[1]);
  state.maximum = maximum;
  return {factors[0], factors[1]};
}

void Blend(const JoinFactors& factors, int64_t n, float* mixed, const float* next) {
  const V16 running_factor = Set(factors.running), next_factor = Set(factors.next);
  for (int64_t i = 0; i < n; i += 16) {
    Store(Fma(Load(next + i), next_factor, Mul(Load(mixed + i), running_factor)), mixed + i);
  }
}

void Finish(const SoftmaxState& state, const float* mixed, int64_t n, float* out) {
  const V16 sum = Set(state.sum);
  for (int64_t i = 0; i < n; i += 16) Store(Div(Load(mixed + i), sum), out + i);
}

const AttentionKernels& Table() {
  static constexpr AttentionKernels kKernels = {Softmax, Join, Blend, Finish};
  return kKernels;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace engine
}  // namespace nibble
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nibble::engine {

const AttentionKernels& AttentionKernelsFor(simd::Isa isa) { return NIBBLE_FOR_ISA(isa, Table()); }

}  // namespace nibble::engine
#endif  // HWY_ONCE
