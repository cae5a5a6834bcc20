#include "engine/backends/cpu/row_rounding.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "engine/quant/weight_groups.h"
#include "engine/weights/hadamard.h"
#include "kvcache/simd/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/backends/cpu/row_rounding.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "hwy/highway.h"
#include "kvcache/simd/exchange-inl.h"
#include "kvcache/simd/vec16-inl.h"

HWY_BEFORE_NAMESPACE();
namespace nibble {
namespace engine {
namespace HWY_NAMESPACE {
namespace {

using namespace nibble::simd::HWY_NAMESPACE;  // NOLINT: the vector vocabulary of this target

constexpr int32_t kInfinityBits = 0x7F800000;
constexpr int kGroupsAtOnce = 16;

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

HWY_INLINE V16 Butterflies(V16 a) { return Butterfly<1>(Butterfly<2>(Butterfly<4>(Butterfly<8>(a)))); }

// Hadamard32 of hadamard.h, operation by operation, and its factor.
HWY_INLINE Group Turn(const Group& group) {
  const V16 factor = Set(kRotatedInputFactor);
  return {Mul(Butterflies(Add(group.low, group.high)), factor), Mul(Butterflies(Sub(group.low, group.high)), factor)};
}

// The groups of a row, as they are.
struct PlainGroups {
  const float* x;
  int64_t cols;
  HWY_INLINE Group First(int64_t g, int64_t /*i*/) const { return LoadGroup(x, cols, g); }
  HWY_INLINE Group Again(int64_t g, int64_t /*i*/) const { return LoadGroup(x, cols, g); }
};

// Rotated, and kept in `kept` for another reading, [kGroupsAtOnce * kGroupSize].
struct RotatedGroups {
  const float* x;
  int64_t cols;
  float* kept;

  HWY_INLINE Group First(int64_t g, int64_t i) const {
    const Group rotated = Turn(LoadGroup(x, cols, g));
    Store(rotated.low, kept + i * kGroupSize);
    Store(rotated.high, kept + i * kGroupSize + 16);
    return rotated;
  }
  HWY_INLINE Group Again(int64_t /*g*/, int64_t i) const {
    return {Load(kept + i * kGroupSize), Load(kept + i * kGroupSize + 16)};
  }
};

HWY_INLINE void StoreCodes(I16 a, int8_t* out) {
  const hn::Rebind<int8_t, I> bytes;
  NIBBLE_PARTS hn::StoreU(hn::DemoteTo(bytes, a.v[i]), bytes, out + i * kLanes);
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

// What sixteen groups are rounded with.
struct GroupScales {
  HWY_ALIGN float scales[kGroupsAtOnce];
  HWY_ALIGN float inverses[kGroupsAtOnce];
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

// Sixteen groups at a time, for their divisions.
template <typename Rounding, typename Groups>
HWY_INLINE void QuantizeGroups(const Rounding& rounding, const Groups& groups, int64_t row, const QuantizedRows& out) {
  float row_sum = 0.0f;
  for (int64_t first = 0; first < out.groups; first += kGroupsAtOnce) {
    const int64_t count = std::min<int64_t>(kGroupsAtOnce, out.groups - first);
    HWY_ALIGN int32_t largest[kGroupsAtOnce] = {};
    HWY_ALIGN float spans[kGroupsAtOnce] = {}, lows[kGroupsAtOnce] = {};
    for (int64_t i = 0; i < count; ++i) {
      const Group group = groups.First(first + i, i);
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
        sum = rounding.Quantize(groups.Again(first + i, i), first + i, made.inverses[i], lows[i], codes);
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

template <typename Rounding>
HWY_INLINE void QuantizeBy(const Rounding& rounding, bool rotated, const float* x, int64_t cols, int64_t row,
                           const QuantizedRows& out) {
  if (!rotated) return QuantizeGroups(rounding, PlainGroups{x, cols}, row, out);
  HWY_ALIGN float kept[kGroupsAtOnce * kGroupSize];
  QuantizeGroups(rounding, RotatedGroups{x, cols, kept}, row, out);
}

void QuantizeOneRow(const float* x, int64_t cols, int64_t row, const RowForm& form, const QuantizedRows& out) {
  if (form.int4_inputs == nullptr) return QuantizeBy(RoundingA8{}, form.rotated, x, cols, row, out);
  QuantizeBy(RoundingA4{form.int4_inputs}, form.rotated, x, cols, row, out);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace engine
}  // namespace nibble
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nibble::engine {

static_assert(kGroupSize == kHadamardSize);

QuantizedRows QuantizedRowsBuffer::Fit(int64_t rows, int64_t groups) {
  const auto count = static_cast<size_t>(rows * groups);
  if (scales_.size() < count) {
    codes_.resize(count * kGroupSize);
    scales_.resize(count);
    scaled_sums_.resize(count);
    biases_.resize(count);
  }
  if (row_sums_.size() < static_cast<size_t>(rows)) row_sums_.resize(static_cast<size_t>(rows));
  return {codes_.data(), scales_.data(), scaled_sums_.data(), biases_.data(), row_sums_.data(), groups};
}

void QuantizeRow(simd::Isa isa, const float* x, int64_t cols, int64_t row, const RowForm& form,
                 const QuantizedRows& out) {
  NIBBLE_FOR_ISA(isa, QuantizeOneRow(x, cols, row, form, out));
}

}  // namespace nibble::engine
#endif  // HWY_ONCE
