// Which of Highway's targets are compiled: scalar, AVX2 and AVX-512 with VNNI; on AArch64 NEON alone. Include before
// any Highway header.
#ifndef NIBBLE_KVCACHE_SIMD_TARGETS_H_
#define NIBBLE_KVCACHE_SIMD_TARGETS_H_

#define HWY_WANT_AVX3_DL 1
// The same scalar target with every compiler: by itself Highway takes it with g++ and EMU128 with clang.
#define HWY_BROKEN_EMU128 1
#if defined(__aarch64__)  // vectors of SVE have no size to put them into arrays with
#define HWY_DISABLED_TARGETS (HWY_SVE | HWY_SVE2 | HWY_SVE_256 | HWY_SVE2_128)
#else
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3)
#endif

// NIBBLE_FOR_ISA(isa, Expression): evaluates N_<TARGET>::Expression of the enclosing namespace for the chosen ISA.
// For use under HWY_ONCE.
#if defined(__x86_64__)
#define NIBBLE_FOR_ISA(isa, expression)                          \
  ((isa) == ::nibble::simd::Isa::kAvx512 ? N_AVX3_DL::expression \
   : (isa) == ::nibble::simd::Isa::kAvx2 ? N_AVX2::expression    \
                                         : N_SCALAR::expression)
#elif defined(__aarch64__)
#define NIBBLE_FOR_ISA(isa, expression) (static_cast<void>(isa), N_NEON::expression)
#endif

// In place of HWY_BEFORE_NAMESPACE where the AVX-512 target uses VNNI, VBMI or GFNI instructions: Highway 1.0.3 checks
// the processor for them (isa.cc for GFNI) but does not tell the compiler. (Not nested inside it: clang heeds the outer
// attribute alone.)
#define NIBBLE_BEFORE_VNNI_NAMESPACE() \
  HWY_PUSH_ATTRIBUTES(HWY_TARGET_STR ",avx512vnni,avx512vbmi,gfni") static_assert(true, "")

#endif  // NIBBLE_KVCACHE_SIMD_TARGETS_H_
