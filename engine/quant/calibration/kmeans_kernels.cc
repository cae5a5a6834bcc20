#include "engine/quant/calibration/kmeans_kernels.h"

#include <array>
#include <limits>
#include <utility>

#include "kvcache/simd/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "engine/quant/calibration/kmeans_kernels.cc"
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

template <int kDims>
void Nearest(const NearestArgs& a) {
  for (int64_t at = 0; at < a.count; at += 16) {
    V16 x[kDims];
    NIBBLE_UNROLL for (int d = 0; d < kDims; ++d) x[d] = Load(a.samples + d * a.stride + at);
    V16 best = Set(-std::numeric_limits<float>::infinity());
    I16 which;
    NIBBLE_PARTS which.v[i] = hn::Zero(I());
    for (int c = 0; c < a.num_centroids; ++c) {
      V16 score = Set(-a.half_energies[c]);
      NIBBLE_UNROLL for (int d = 0; d < kDims; ++d) score = Fma(x[d], Set(a.centroids[c * kDims + d]), score);
      NIBBLE_PARTS {
        const auto better = hn::Gt(score.v[i], best.v[i]);
        which.v[i] = hn::IfThenElse(hn::RebindMask(I(), better), hn::Set(I(), c), which.v[i]);
        best.v[i] = hn::IfThenElse(better, score.v[i], best.v[i]);
      }
    }
    NIBBLE_PARTS hn::StoreU(which.v[i], I(), a.nearest + at + i * kLanes);
    Store(best, a.scores + at);
  }
}

template <int... kIndex>
NearestKernel Choose(int dims, std::integer_sequence<int, kIndex...>) {
  static constexpr std::array<NearestKernel, sizeof...(kIndex)> kTable = {Nearest<kIndex + 1>...};
  return kTable[static_cast<size_t>(dims - 1)];
}

NearestKernel Kernel(int dims) { return Choose(dims, std::make_integer_sequence<int, kMaxGroupCoefficients>()); }

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace engine
}  // namespace nibble
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nibble::engine {

NearestKernel NearestKernelFor(simd::Isa isa, int dims) { return NIBBLE_FOR_ISA(isa, Kernel(dims)); }

}  // namespace nibble::engine
#endif  // HWY_ONCE
