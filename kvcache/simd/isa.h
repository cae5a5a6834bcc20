// Instruction sets that kernels are compiled for. One source serves all of them (Highway's foreach_target).
#ifndef NIBBLE_KVCACHE_SIMD_ISA_H_
#define NIBBLE_KVCACHE_SIMD_ISA_H_

#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace nibble::simd {

// kAvx2 needs FMA and F16C beside it. kAvx512 is Highway's AVX3_DL, Ice Lake and later or Zen 4 and later: VNNI, VBMI,
// VBMI2, BITALG, VPOPCNTDQ, GFNI, VAES and VPCLMULQDQ beside the base. Machines with a part of that (Skylake-X, Cascade
// Lake) run kAvx2. On AArch64 there is kScalar alone, and it stands for NEON.
enum class Isa { kScalar, kAvx2, kAvx512 };

std::string_view Name(Isa isa);  // "scalar", "avx2", "avx512"

// Those this machine can run, plainest first. Never empty.
const std::vector<Isa>& SupportedIsas();

// `name` empty: the best supported one. INVALID_ARGUMENT for an unknown name or one this machine lacks.
absl::StatusOr<Isa> ChooseIsa(std::string_view name);

}  // namespace nibble::simd

#endif  // NIBBLE_KVCACHE_SIMD_ISA_H_
