// Which of Highway's targets are compiled: scalar, AVX2 and AVX-512 with VNNI. Include before any Highway header.
#ifndef NIBBLE_KVCACHE_SIMD_TARGETS_H_
#define NIBBLE_KVCACHE_SIMD_TARGETS_H_

#define HWY_WANT_AVX3_DL 1
// The same scalar target with every compiler: by itself Highway takes it with g++ and EMU128 with clang.
#define HWY_BROKEN_EMU128 1
#define HWY_DISABLED_TARGETS (HWY_SSSE3 | HWY_SSE4 | HWY_AVX3)

// NIBBLE_FOR_ISA(isa, Expression): evaluates N_<TARGET>::Expression of the enclosing namespace for the chosen ISA.
// For use under HWY_ONCE.
#if defined(__x86_64__)
#define NIBBLE_FOR_ISA(isa, expression)                          \
  ((isa) == ::nibble::simd::Isa::kAvx512 ? N_AVX3_DL::expression \
   : (isa) == ::nibble::simd::Isa::kAvx2 ? N_AVX2::expression    \
                                         : N_SCALAR::expression)
#else
#define NIBBLE_FOR_ISA(isa, expression) (static_cast<void>(isa), HWY_STATIC_NAMESPACE::expression)
#endif

// In place of HWY_BEFORE_NAMESPACE where the AVX-512 target uses VNNI, VBMI or GFNI instructions: Highway 1.0.3 checks
// the processor for them (isa.cc for GFNI) but does not tell the compiler. (Not nested inside it: clang heeds the outer
// attribute alone.)
#define NIBBLE_BEFORE_VNNI_NAMESPACE() \
  HWY_PUSH_ATTRIBUTES(HWY_TARGET_STR ",avx512vnni,avx512vbmi,gfni") static_assert(true, "")

#endif  // NIBBLE_KVCACHE_SIMD_TARGETS_H_
