// What AVX-512 does to bytes in one instruction, where g++ 12 takes more: fields of packed codes, and dot products of
// four. Of that target alone.
//
// In assembly where the compiler copies sums around an intrinsic, or spends an instruction of its own on a broadcast
// that the multiplying one could have made: then decoding, not multiplying, bounds the kernels.
//
// Include inside a file that Highway's foreach_target compiles for each target.
#if defined(NIBBLE_KVCACHE_SIMD_BYTES_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef NIBBLE_KVCACHE_SIMD_BYTES_INL_H_
#undef NIBBLE_KVCACHE_SIMD_BYTES_INL_H_
#else
#define NIBBLE_KVCACHE_SIMD_BYTES_INL_H_
#endif

#include <cstdint>

#include "hwy/highway.h"

#if HWY_TARGET == HWY_AVX3_DL
NIBBLE_BEFORE_VNNI_NAMESPACE();
namespace nibble {
namespace simd {
namespace HWY_NAMESPACE {

// kCount bits of each byte from kFirst on, moved to kTo and on; all others are 0. (A byte of the matrix picks the bits
// that are added up to one of the result, the last byte to the lowest.)
template <int kFirst, int kCount, int kTo = 0>
HWY_INLINE __m512i BitsOfBytes(__m512i bytes) {
  uint64_t matrix = 0;
  for (int bit = 0; bit < kCount; ++bit) matrix |= uint64_t{1} << (kFirst + bit + 8 * (7 - kTo - bit));
  return _mm512_gf2p8affine_epi64_epi8(bytes, _mm512_set1_epi64(static_cast<int64_t>(matrix)), 0);
}

// sum and the products of four unsigned bytes with four signed ones, of each lane.
HWY_INLINE __m512i AddByteProducts(__m512i sum, __m512i unsigned_bytes, __m512i signed_bytes) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(unsigned_bytes), "v"(signed_bytes));
  return sum;
}

// The same, with the four signed bytes at `four` in every lane.
HWY_INLINE __m512i AddByteProducts(__m512i sum, __m512i unsigned_bytes, const void* four) {
  asm("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sum) : "v"(unsigned_bytes), "m"(*static_cast<const int8_t(*)[4]>(four)));
  return sum;
}

}  // namespace HWY_NAMESPACE
}  // namespace simd
}  // namespace nibble
HWY_AFTER_NAMESPACE();
#endif  // target

#endif  // toggle
