#include "engine/backends/cpu/delta_kernels.h"

#include "kvcache/simd/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/backends/cpu/delta_kernels.cc"
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

HWY_INLINE void AddToRow(const DeltaPanelArgs& a, int64_t row, V16 sum) {
  float* out = a.out + row * a.out_stride;
  const V16 scale = Load(a.scales);
  if (HWY_LIKELY(a.outputs == 16)) return Store(Fma(scale, sum, Load(out)), out);
  HWY_ALIGN float lanes[16] = {};
  for (int i = 0; i < a.outputs; ++i) lanes[i] = out[i];
  Store(Fma(scale, sum, Load(lanes)), lanes);
  for (int i = 0; i < a.outputs; ++i) out[i] = lanes[i];
}

template <int kBits>
struct Tile {
  template <int kRows>
  static HWY_INLINE void Run(const DeltaPanelArgs& a, int64_t row) {
    constexpr int kGroupBytes = kBits == 1 ? kCodeBytes1 : kCodeBytes8;
    const int64_t groups = a.x->groups, stride = groups * kGroupSize;
    const int8_t* x = a.x->codes + (a.first_row + row) * stride;
    const int64_t first = (a.first_row + row) * groups;
    V16 sums[kRows];
    NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) sums[r] = Zero();
    for (int64_t g = 0; g < groups; ++g) {
      const auto* codes = reinterpret_cast<const uint8_t*>(a.panel + g * kGroupBytes);
      I16 dots[kRows];
      if constexpr (kBits == 1) {
        GroupDot1<kRows>(codes, x + g * kGroupSize, stride, dots);
      } else {
        GroupDot8<kRows>(codes, x + g * kGroupSize, stride, a.x->biases + first + g, groups, dots);
      }
      NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
        sums[r] = Fma(ToFloat(dots[r]), Set(a.x->scales[first + r * groups + g]), sums[r]);
      }
    }
    NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
      if constexpr (kBits == 1) sums[r] = Sub(Add(sums[r], sums[r]), Set(a.x->row_sums[a.first_row + row + r]));
      AddToRow(a, row + r, sums[r]);
    }
  }
};

template <int kBits>
void Panel(const DeltaPanelArgs& a) {
  RunTiles<Tile<kBits>>(a);
}

DeltaPanelKernel Choose(int bits) { return bits == 1 ? Panel<1> : Panel<8>; }

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace engine
}  // namespace nibble
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nibble::engine {

DeltaPanelKernel DeltaPanelKernelFor(simd::Isa isa, int bits) { return NIBBLE_FOR_ISA(isa, Choose(bits)); }

}  // namespace nibble::engine
#endif  // HWY_ONCE
