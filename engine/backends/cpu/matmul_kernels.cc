#include "engine/backends/cpu/matmul_kernels.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "kvcache/base/check.h"
#include "kvcache/simd/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/backends/cpu/matmul_kernels.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "engine/backends/cpu/group_dot-inl.h"
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

constexpr int32_t kInfinityBits = 0x7F800000;

template <bool kHalf>
HWY_INLINE V16 LoadParams(const std::byte* params) {
  if constexpr (kHalf) {
    return LoadHalf(reinterpret_cast<const uint16_t*>(params));
  } else {
    return Load(reinterpret_cast<const float*>(params));
  }
}

// Adds bias, joins what is there, and writes the panel's outputs of one row.
HWY_INLINE void WriteRow(const PanelArgs& a, int64_t row, V16 sum) {
  float* out = a.out + row * a.out_stride;
  if (HWY_LIKELY(a.outputs == 16)) {
    if (a.bias != nullptr) sum = Add(sum, Load(a.bias));
    if (a.add) sum = Add(Load(out), sum);
    Store(sum, out);
    return;
  }
  HWY_ALIGN float lanes[16];
  Store(sum, lanes);
  for (int i = 0; i < a.outputs; ++i) {
    const float value = a.bias != nullptr ? lanes[i] + a.bias[i] : lanes[i];
    out[i] = a.add ? out[i] + value : value;
  }
}

template <int kBits, bool kHasMin, bool kHalf>
struct QuantizedTile {
  template <int kRows>
  static HWY_INLINE void Run(const PanelArgs& a, int64_t row) {
    constexpr int kParamBytes = 16 * (kHalf ? 2 : 4);
    constexpr int kGroupBytes = (kBits == 4 ? kCodeBytes4 : kCodeBytes8) + kParamBytes * (kHasMin ? 2 : 1);
    const int64_t groups = a.x->groups, stride = groups * kGroupSize;
    const int8_t* x = a.x->codes + (a.first_row + row) * stride;
    const int64_t first = (a.first_row + row) * groups;
    V16 sums[kRows];
    NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) sums[r] = Zero();
    for (int64_t step = 0; step < groups; ++step) {
#if defined(NIBBLE_REORDER_SUMS) && HWY_TARGET == HWY_SCALAR
      const int64_t g = groups - 1 - step;
#else
      const int64_t g = step;
#endif
      const std::byte* group = a.panel + g * kGroupBytes;
      const auto* codes = reinterpret_cast<const uint8_t*>(group);
      const std::byte* params = group + (kBits == 4 ? kCodeBytes4 : kCodeBytes8);
      I16 dots[kRows];
      if constexpr (kBits == 4) {
        GroupDot4<kRows>(codes, x + g * kGroupSize, stride, nullptr, 0, dots);
      } else {
        GroupDot8<kRows>(codes, x + g * kGroupSize, stride, a.x->biases + first + g, groups, dots);
      }
      const V16 scale = LoadParams<kHalf>(params);
      NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
        const V16 x_scale = Set(a.x->scales[first + r * groups + g]);
        sums[r] = Fma(ToFloat(dots[r]), Mul(x_scale, scale), sums[r]);
      }
      if constexpr (kHasMin) {
        const V16 min = LoadParams<kHalf>(params + kParamBytes);
        NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
          sums[r] = Fma(Set(a.x->scaled_sums[first + r * groups + g]), min, sums[r]);
        }
      }
    }
    NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) WriteRow(a, row + r, sums[r]);
  }
};

template <int kBits, bool kHasMin, bool kHalf>
void QuantizedPanel(const PanelArgs& a) {
  RunTiles<QuantizedTile<kBits, kHasMin, kHalf>>(a);
}

template <int kRows>
HWY_INLINE void FloatTile(const PanelArgs& a, int64_t row) {
  const auto* weights = reinterpret_cast<const float*>(a.panel);
  const float* x = a.x_f32 + row * a.cols;
  V16 sums[kRows];
  NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) sums[r] = Zero();
  for (int64_t step = 0; step < a.cols; ++step) {
#if defined(NIBBLE_REORDER_SUMS) && HWY_TARGET == HWY_SCALAR
    const int64_t k = a.cols - 1 - step;
#else
    const int64_t k = step;
#endif
    const V16 w = Load(weights + k * 16);
    NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) sums[r] = Fma(Set(x[r * a.cols + k]), w, sums[r]);
  }
  NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) WriteRow(a, row + r, sums[r]);
}

void FloatPanel(const PanelArgs& a) {
  int64_t row = 0;
  for (; row + kMaxRows <= a.rows; row += kMaxRows) FloatTile<kMaxRows>(a, row);
  for (; row < a.rows; ++row) FloatTile<1>(a, row);
}

PanelKernel ChoosePanel(const GroupFormat& format) {
  if (format == GroupFormat{4, true, true}) return QuantizedPanel<4, true, true>;
  if (format == GroupFormat{4, true, false}) return QuantizedPanel<4, true, false>;
  if (format == GroupFormat{8, false, true}) return QuantizedPanel<8, false, true>;
  NIBBLE_CHECK((format == GroupFormat{8, true, false}));
  return QuantizedPanel<8, true, false>;
}

PanelKernel ChooseFloatPanel() { return FloatPanel; }

HWY_INLINE void StoreCodes(I16 a, int8_t* out) {
  const hn::Rebind<int8_t, I> bytes;
  NIBBLE_PARTS hn::StoreU(hn::DemoteTo(bytes, a.v[i]), bytes, out + i * kLanes);
}

struct Group {
  V16 low, high;
};

// What lies past the end of a row counts as zeros.
HWY_INLINE Group LoadGroup(const float* x, int64_t cols, int64_t g) {
  const float* group = x + g * kGroupSize;
  if (HWY_LIKELY((g + 1) * kGroupSize <= cols)) return {Load(group), Load(group + 16)};
  HWY_ALIGN float padded[kGroupSize] = {};
  std::copy(group, x + cols, padded);
  return {Load(padded), Load(padded + 16)};
}

// What sixteen groups are rounded with.
struct GroupScales {
  HWY_ALIGN float scales[16];
  HWY_ALIGN float inverses[16];
};

// Where a group's `span` is `steps` steps of its grid: scale = span / steps, and its inverse. Below 4e-37 the inverse
// of an int8 scale overflows, below 2e-36 the scale is denormal: a group whose largest magnitude is under 1e-30, well
// above both and far below what counts in a sum, is zero, and both are.
HWY_INLINE void ScalesOfSpans(const int32_t* largest, const float* spans, float steps, GroupScales* out) {
  NIBBLE_PARTS {
    const auto span = hn::LoadU(F(), spans + i * kLanes), count = hn::Set(F(), steps);
    const auto magnitude = hn::BitCast(F(), hn::LoadU(I(), largest + i * kLanes));
    const auto counts = hn::Ge(magnitude, hn::Set(F(), 1e-30f));
    hn::StoreU(hn::IfThenElseZero(counts, hn::Div(span, count)), F(), out->scales + i * kLanes);
    hn::StoreU(hn::IfThenElseZero(counts, hn::Div(count, span)), F(), out->inverses + i * kLanes);
  }
}

// The codes of 16 values. Returns them for the sum.
HWY_INLINE I16 QuantizeHalf(V16 x, V16 inverse, V16 highest, int8_t* codes) {
  const I16 rounded = NearestInt(Min(Mul(x, inverse), highest));
  StoreCodes(rounded, codes);
  return rounded;
}

// The largest magnitude is 127 steps.
struct RoundingA8 {
  static constexpr float kSteps = 127.0f;

  HWY_INLINE float Span(const Group& /*group*/, int64_t /*g*/, int32_t largest, float* /*low*/) const {
    float magnitude;
    std::memcpy(&magnitude, &largest, sizeof magnitude);
    return magnitude;
  }
  HWY_INLINE int32_t Quantize(const Group& group, int64_t /*g*/, float inverse, float /*low*/, int8_t* codes) const {
    const V16 factor = Set(inverse), highest = Set(127.0f);
    return SumLanesInt(
        AddInt(QuantizeHalf(group.low, factor, highest, codes), QuantizeHalf(group.high, factor, highest, codes + 16)));
  }
};

// Fifteen steps from the least of a group's 4-bit values and zero to the greatest, unless an int8 value is more than
// 127 of those. Spans are halves: the difference of two finite values need not be one.
struct RoundingA4 {
  static constexpr float kSteps = 7.5f;
  const float* int4_inputs;

  HWY_INLINE float Span(const Group& group, int64_t g, int32_t /*largest*/, float* low) const {
    const float* int4 = int4_inputs + g * kGroupSize;
    const V16 first = Mul(group.low, Load(int4)), second = Mul(group.high, Load(int4 + 16));
    const V16 rest = Sub(group.low, first), more_rest = Sub(group.high, second);
    const float high = MaxLanes16(Max(Zero(), Max(first, second)));
    *low = -MaxLanes16(Max(Zero(), Sub(Zero(), Min(first, second))));
    const float wide = MaxLanes16(Max(Max(rest, more_rest), Sub(Zero(), Min(rest, more_rest))));
    return std::max(0.5f * high - 0.5f * *low, wide * (kSteps / 127.0f));
  }
  HWY_INLINE int32_t Quantize(const Group& group, int64_t g, float inverse, float low, int8_t* codes) const {
    const float* int4 = int4_inputs + g * kGroupSize;
    // Fifteen above the code of `low`, and 127 for int8 inputs.
    const V16 lower = ToFloat(NearestInt(Mul(Set(low), Set(inverse)))), factor = Set(inverse), most = Set(127.0f);
    const V16 less = Sub(Add(lower, Set(15.0f)), most);
    return SumLanesInt(AddInt(QuantizeHalf(group.low, factor, Fma(Load(int4), less, most), codes),
                              QuantizeHalf(group.high, factor, Fma(Load(int4 + 16), less, most), codes + 16)));
  }
};

// Sixteen groups at a time, for their divisions.
template <typename Rounding>
HWY_INLINE void QuantizeGroups(const Rounding& rounding, const float* x, int64_t cols, int64_t row,
                               const QuantizedRows& out) {
  float row_sum = 0.0f;
  for (int64_t first = 0; first < out.groups; first += 16) {
    const int64_t count = std::min<int64_t>(16, out.groups - first);
    HWY_ALIGN int32_t largest[16] = {};
    HWY_ALIGN float spans[16] = {}, lows[16] = {};
    for (int64_t i = 0; i < count; ++i) {
      const Group group = LoadGroup(x, cols, first + i);
      largest[i] = LargestLane(MaxInt(MagnitudeBits(group.low), MagnitudeBits(group.high)));
      if (HWY_LIKELY(largest[i] < kInfinityBits)) spans[i] = rounding.Span(group, first + i, largest[i], &lows[i]);
    }
    GroupScales made;
    ScalesOfSpans(largest, spans, Rounding::kSteps, &made);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t at = row * out.groups + first + i;
      int8_t* codes = out.codes + at * kGroupSize;
      int32_t sum = 0;
      if (HWY_LIKELY(largest[i] < kInfinityBits)) {
        sum = rounding.Quantize(LoadGroup(x, cols, first + i), first + i, made.inverses[i], lows[i], codes);
      } else {
        std::memset(codes, 0, kGroupSize);
        made.scales[i] = std::numeric_limits<float>::quiet_NaN();
      }
      out.scales[at] = made.scales[i];
      out.scaled_sums[at] = made.scales[i] * static_cast<float>(sum);
      row_sum += out.scaled_sums[at];
      out.biases[at] = -128 * sum;
    }
  }
  out.row_sums[row] = row_sum;
}

void QuantizeOneRow(const float* x, int64_t cols, int64_t row, const float* int4_inputs, const QuantizedRows& out) {
  if (int4_inputs == nullptr) return QuantizeGroups(RoundingA8{}, x, cols, row, out);
  QuantizeGroups(RoundingA4{int4_inputs}, x, cols, row, out);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace engine
}  // namespace nibble
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nibble::engine {

PanelKernel QuantizedPanelKernel(simd::Isa isa, const GroupFormat& format) {
  return NIBBLE_FOR_ISA(isa, ChoosePanel(format));
}

PanelKernel FloatPanelKernel(simd::Isa isa) { return NIBBLE_FOR_ISA(isa, ChooseFloatPanel()); }

void QuantizeRow(simd::Isa isa, const float* x, int64_t cols, int64_t row, const float* int4_inputs,
                 const QuantizedRows& out) {
  NIBBLE_FOR_ISA(isa, QuantizeOneRow(x, cols, row, int4_inputs, out));
}

}  // namespace nibble::engine
#endif  // HWY_ONCE
