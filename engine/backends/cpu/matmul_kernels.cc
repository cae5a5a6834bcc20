#include "engine/backends/cpu/matmul_kernels.h"

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

}  // namespace nibble::engine
#endif  // HWY_ONCE
