#include "engine/quant/calibration/sensitivity_kernels.h"

#include "kvcache/page.h"
#include "kvcache/simd/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/quant/calibration/sensitivity_kernels.cc"
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

void Softmax(float* scores, int64_t n) {
  V16 largest = Load(scores);
  for (int64_t i = 16; i < n; i += 16) largest = Max(largest, Load(scores + i));
  const V16 shift = Set(MaxLanes16(largest));
  V16 sum = Zero();
  for (int64_t i = 0; i < n; i += 16) {
    const V16 weight = Exp(Sub(Load(scores + i), shift));
    Store(weight, scores + i);
    sum = Add(sum, weight);
  }
  const V16 inverse = Set(1.0f / SumLanes(sum));
  for (int64_t i = 0; i < n; i += 16) Store(Mul(Load(scores + i), inverse), scores + i);
}

// Sixteen tokens; returns what was added to the key weights.
HWY_INLINE V16 AddTokens(const QuerySensitivityArgs& a, int64_t at) {
  const V16 p = Load(a.probabilities + at);
  const V16 p2 = Mul(p, p);
  const V16 energy = Add(Load(a.value_energies + at), Set(a.output_energy));
  const V16 distance = Max(Fma(Set(-2.0f), Load(a.crossings + at), energy), Zero());
  const V16 key = Mul(Mul(p2, Set(a.key_factor)), distance);
  Store(Fma(p2, Set(a.value_factor), Load(a.value_weights + at)), a.value_weights + at);
  Store(Add(Load(a.key_weights + at), key), a.key_weights + at);
  return key;
}

void AddQuery(const QuerySensitivityArgs& a) {
  for (int64_t at = a.first; at < a.last; at += kv::kPageTokens) {
    const V16 low = AddTokens(a, at);
    a.page_weights[at / kv::kPageTokens] = SumLanes(Add(low, AddTokens(a, at + 16)));
  }
}

const SensitivityKernels& Table() {
  static constexpr SensitivityKernels kKernels = {Softmax, AddQuery};
  return kKernels;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace engine
}  // namespace nibble
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nibble::engine {

const SensitivityKernels& SensitivityKernelsFor(simd::Isa isa) { return NIBBLE_FOR_ISA(isa, Table()); }

}  // namespace nibble::engine
#endif  // HWY_ONCE
