#include "engine/tools/peak_kernels.h"

#include "kvcache/simd/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/tools/peak_kernels.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "hwy/highway.h"
#include "kvcache/simd/vec16-inl.h"

#if HWY_TARGET == HWY_AVX3_DL
NIBBLE_BEFORE_VNNI_NAMESPACE();
#else
HWY_BEFORE_NAMESPACE();
#endif
namespace nibble {
namespace engine {
namespace HWY_NAMESPACE {
namespace {

using namespace nibble::simd::HWY_NAMESPACE;  // NOLINT: the vector vocabulary of this target

constexpr int kAccumulators = 8;  // enough to hide the latency of a multiply-add

#if HWY_TARGET == HWY_AVX3_DL

constexpr int64_t kMacsPerOp = 64;
using Bytes = __m512i;
HWY_INLINE Bytes Spread(int32_t x) { return _mm512_set1_epi32(x); }
HWY_INLINE Bytes MultiplyAdd(Bytes sum, Bytes a, Bytes b) { return _mm512_dpbusd_epi32(sum, a, b); }
HWY_INLINE int32_t First(Bytes sum) { return _mm512_cvtsi512_si32(sum); }
HWY_INLINE void Hide(Bytes& x) { asm volatile("" : "+v"(x)); }

#elif HWY_TARGET == HWY_AVX2

constexpr int64_t kMacsPerOp = 32;
using Bytes = __m256i;
HWY_INLINE Bytes Spread(int32_t x) { return _mm256_set1_epi32(x); }
HWY_INLINE Bytes MultiplyAdd(Bytes sum, Bytes a, Bytes b) {
  return _mm256_add_epi32(sum, _mm256_madd_epi16(_mm256_maddubs_epi16(a, b), _mm256_set1_epi16(1)));
}
HWY_INLINE int32_t First(Bytes sum) { return _mm256_cvtsi256_si32(sum); }
HWY_INLINE void Hide(Bytes& x) { asm volatile("" : "+x"(x)); }

#else

constexpr int64_t kMacsPerOp = 1;
using Bytes = uint32_t;  // the sums wrap
HWY_INLINE Bytes Spread(int32_t x) { return static_cast<uint32_t>(x) & 0x7F; }
HWY_INLINE Bytes MultiplyAdd(Bytes sum, Bytes a, Bytes b) { return sum + a * b; }
HWY_INLINE int32_t First(Bytes sum) { return static_cast<int32_t>(sum); }
HWY_INLINE void Hide(Bytes& x) { asm volatile("" : "+r"(x)); }

#endif

int64_t Int8Macs(int64_t rounds, int32_t* sink) {
  Bytes sums[kAccumulators];
  uint32_t total = static_cast<uint32_t>(*sink);
  Bytes a = Spread(*sink), b = Spread(static_cast<int32_t>(total + 0x01010101u));
  NIBBLE_UNROLL for (int i = 0; i < kAccumulators; ++i) sums[i] = Spread(i);
  for (int64_t round = 0; round < rounds; ++round) {
    NIBBLE_UNROLL for (int i = 0; i < kAccumulators; ++i) sums[i] = MultiplyAdd(sums[i], a, b);
    Hide(a);  // or the compiler would know that every round multiplies the same
    Hide(b);
  }
  NIBBLE_UNROLL for (int i = 0; i < kAccumulators; ++i) total += static_cast<uint32_t>(First(sums[i]));
  *sink = static_cast<int32_t>(total);
  return rounds * kAccumulators * kMacsPerOp;
}

float Read(absl::Span<const float> values) {
  V16 sums[4] = {Zero(), Zero(), Zero(), Zero()};
  for (size_t i = 0; i < values.size(); i += 64) {
    NIBBLE_UNROLL for (size_t j = 0; j < 4; ++j) sums[j] = Add(sums[j], Load(values.data() + i + 16 * j));
  }
  return SumLanes(Add(Add(sums[0], sums[1]), Add(sums[2], sums[3])));
}

const PeakKernels& Kernels() {
  static constexpr PeakKernels kKernels = {Int8Macs, Read};
  return kKernels;
}

}  // namespace

}  // namespace HWY_NAMESPACE
}  // namespace engine
}  // namespace nibble
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nibble::engine {

const PeakKernels& PeakKernelsFor(simd::Isa isa) { return NIBBLE_FOR_ISA(isa, Kernels()); }

}  // namespace nibble::engine
#endif  // HWY_ONCE
