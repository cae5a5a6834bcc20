#include "engine/backends/cpu/row_kernels.h"

#include <cmath>

#include "kvcache/simd/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/backends/cpu/row_kernels.cc"
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

// The last, partial sixteen of a row: padded with zeros, so that one code path computes every element.
HWY_INLINE V16 LoadTail(const float* x, int64_t count) {
  HWY_ALIGN float lanes[16] = {};
  for (int64_t i = 0; i < count; ++i) lanes[i] = x[i];
  return Load(lanes);
}
HWY_INLINE void StoreTail(V16 a, float* out, int64_t count) {
  HWY_ALIGN float lanes[16];
  Store(a, lanes);
  for (int64_t i = 0; i < count; ++i) out[i] = lanes[i];
}

// out[i] = op(x[i], y[i]); the buffers may be the same.
template <typename Op>
HWY_INLINE void Map(const float* x, const float* y, int64_t n, float* out, const Op& op) {
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) Store(op(Load(x + i), Load(y + i)), out + i);
  if (i < n) StoreTail(op(LoadTail(x + i, n - i), LoadTail(y + i, n - i)), out + i, n - i);
}

float SumOfSquares(const float* x, int64_t n) {
  V16 sum = Zero();
  int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    const V16 v = Load(x + i);
    sum = Fma(v, v, sum);
  }
  if (i < n) {
    const V16 v = LoadTail(x + i, n - i);
    sum = Fma(v, v, sum);
  }
  return SumLanes(sum);
}

struct ScaleBy {
  V16 factor;
  HWY_INLINE V16 operator()(V16 x, V16 weight) const { return Mul(Mul(x, factor), weight); }
};

void RmsNorm(const float* x, const float* weight, int64_t n, float epsilon, float* out) {
  const float mean = SumOfSquares(x, n) / static_cast<float>(n);
  Map(x, weight, n, out, ScaleBy{Set(1.0f / std::sqrt(mean + epsilon))});
}

struct Sum {
  HWY_INLINE V16 operator()(V16 x, V16 y) const { return Add(x, y); }
};
void AddRows(const float* x, const float* y, int64_t n, float* out) { Map(x, y, n, out, Sum{}); }

struct Times {
  V16 factor;
  HWY_INLINE V16 operator()(V16 x, V16 /*unused*/) const { return Mul(x, factor); }
};
void Scale(float factor, int64_t n, float* x) { Map(x, x, n, x, Times{Set(factor)}); }

HWY_INLINE void RotatePair(float cosine, float sine, float* a, float* b) {
  const float x = *a, y = *b;
  *a = std::fma(x, cosine, -(y * sine));
  *b = std::fma(x, sine, y * cosine);
}

HWY_INLINE void Rotate(V16 cosines, V16 sines, V16* a, V16* b) {
  const V16 x = *a, y = *b;
  *a = Fma(x, cosines, Sub(Zero(), Mul(y, sines)));
  *b = Fma(x, sines, Mul(y, cosines));
}

void RopePairs(const float* cosines, const float* sines, int dims, float* head) {
  const int half = dims / 2;
  int first = 0;
  for (; first + 16 <= half; first += 16) {
    float* pairs = head + 2 * first;
    V16 x, y;
    NIBBLE_PARTS hn::LoadInterleaved2(F(), pairs + 2 * i * kLanes, x.v[i], y.v[i]);
    Rotate(Load(cosines + first), Load(sines + first), &x, &y);
    NIBBLE_PARTS hn::StoreInterleaved2(x.v[i], y.v[i], F(), pairs + 2 * i * kLanes);
  }
  for (int i = first; i < half; ++i) RotatePair(cosines[i], sines[i], &head[2 * i], &head[2 * i + 1]);
}

void RopeHalves(const float* cosines, const float* sines, int dims, float* head) {
  const int half = dims / 2;
  int i = 0;
  for (; i + 16 <= half; i += 16) {
    V16 x = Load(head + i), y = Load(head + half + i);
    Rotate(Load(cosines + i), Load(sines + i), &x, &y);
    Store(x, head + i);
    Store(y, head + half + i);
  }
  for (; i < half; ++i) RotatePair(cosines[i], sines[i], &head[i], &head[half + i]);
}

struct SiluMul {
  HWY_INLINE V16 operator()(V16 gate, V16 up) const {
    const V16 denominator = Add(Set(1.0f), Exp(Sub(Zero(), gate)));
    return Mul(Div(gate, denominator), up);
  }
};
void SiluMulRow(const float* gate, const float* up, int64_t n, float* out) { Map(gate, up, n, out, SiluMul{}); }

struct GeluTanhMul {
  HWY_INLINE V16 operator()(V16 gate, V16 up) const {
    // (1 + tanh u) / 2 = 1 / (1 + e^-2u), which does not cancel where the gate is far below zero.
    const V16 cubic = Fma(Mul(Mul(gate, gate), gate), Set(0.044715f), gate);
    const V16 denominator = Add(Set(1.0f), Exp(Mul(Set(-1.5957691216f), cubic)));
    return Mul(Div(gate, denominator), up);
  }
};
void GeluTanhMulRow(const float* gate, const float* up, int64_t n, float* out) { Map(gate, up, n, out, GeluTanhMul{}); }

struct SoftCapOp {
  V16 cap;
  HWY_INLINE V16 operator()(V16 x, V16 /*unused*/) const { return Mul(cap, Tanh(Div(x, cap))); }
};
void SoftCapRow(float cap, int64_t n, float* x) { Map(x, x, n, x, SoftCapOp{Set(cap)}); }

const RowKernels& Table() {
  static constexpr RowKernels kKernels = {RmsNorm,   AddRows,    Scale,          RopeHalves,
                                          RopePairs, SiluMulRow, GeluTanhMulRow, SoftCapRow};
  return kKernels;
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace engine
}  // namespace nibble
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nibble::engine {

const RowKernels& RowKernelsFor(simd::Isa isa) { return NIBBLE_FOR_ISA(isa, Table()); }

}  // namespace nibble::engine
#endif  // HWY_ONCE
