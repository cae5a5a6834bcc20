// How sixteen scales lie in bytes, and which scales there are.
//
// Include inside a file that Highway's foreach_target compiles for each target.
#if defined(NIBBLE_KVCACHE_CODECS_SCALES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NIBBLE_KVCACHE_CODECS_SCALES_INL_H_
#undef NIBBLE_KVCACHE_CODECS_SCALES_INL_H_
#else
#define NIBBLE_KVCACHE_CODECS_SCALES_INL_H_
#endif

#include <cstdint>

#include "kvcache/codecs/operands-inl.h"
#include "kvcache/simd/vec16-inl.h"

#if HWY_TARGET == HWY_AVX3_DL
NIBBLE_BEFORE_VNNI_NAMESPACE();
#else
HWY_BEFORE_NAMESPACE();
#endif
namespace nibble {
namespace kv {
namespace HWY_NAMESPACE {

using namespace nibble::simd::HWY_NAMESPACE;  // NOLINT: the vector vocabulary of this target

struct HalfScales {
  static constexpr int kBytes = 2;

  static HWY_INLINE V16 Load(const uint8_t* p) { return LoadHalf(reinterpret_cast<const uint16_t*>(p)); }
  static HWY_INLINE void Store(V16 scales, uint8_t* p) { StoreHalf(scales, reinterpret_cast<uint16_t*>(p)); }
};

// The upper bits of a half without its sign: byte u, five bits of exponent and three of fraction, stands for the half
// whose bits are u << 7, the largest exponent being an ordinary one.
struct ByteScales {
  static constexpr int kBytes = 1;

  static HWY_INLINE V16 Load(const uint8_t* p) {
    const hn::Rebind<uint8_t, I> bytes;
    I16 u;
    NIBBLE_PARTS u.v[i] = hn::PromoteTo(I(), hn::LoadU(bytes, p + i * kLanes));
    return Of(u);
  }
  static HWY_INLINE void Store(V16 scales, uint8_t* p) { StoreNarrowed(Below(scales), p); }

  // The exponents of halves and floats differ by 112.
  static HWY_INLINE V16 Of(I16 bytes) {
    V16 r;
    NIBBLE_PARTS r.v[i] = hn::BitCast(F(), hn::ShiftLeft<20>(bytes.v[i]));
    return Mul(r, Set(0x1p112f));
  }
  // The bytes of the greatest scales not above.
  static HWY_INLINE I16 Below(V16 scales) {
    const V16 scaled = Mul(scales, Set(0x1p-112f));
    I16 r;
    NIBBLE_PARTS r.v[i] = hn::ShiftRight<20>(hn::BitCast(I(), scaled.v[i]));
    return r;
  }
  // The bytes of the least scales not below. REQUIRES: there are such.
  static HWY_INLINE I16 Above(V16 scales) {
    const I16 below = Below(scales);
    const V16 exact = Of(below);
    I16 r;
    NIBBLE_PARTS {
      const auto one = hn::RebindMask(I(), hn::Lt(exact.v[i], scales.v[i]));
      r.v[i] = hn::Add(below.v[i], hn::IfThenElseZero(one, hn::Set(I(), 1)));
    }
    return r;
  }
  // The bytes `steps` scales away, within the least and the greatest scale that there are.
  static HWY_INLINE I16 Away(I16 bytes, int steps) {
    I16 r;
    NIBBLE_PARTS {
      const auto moved = hn::Add(bytes.v[i], hn::Set(I(), steps));
      r.v[i] = hn::Min(hn::Max(moved, hn::Zero(I())), hn::Set(I(), 255));
    }
    return r;
  }
};

}  // namespace HWY_NAMESPACE
}  // namespace kv
}  // namespace nibble
HWY_AFTER_NAMESPACE();

#endif  // NIBBLE_KVCACHE_CODECS_SCALES_INL_H_
