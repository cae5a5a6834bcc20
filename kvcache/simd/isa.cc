#include "kvcache/simd/isa.h"

#include "absl/strings/str_cat.h"
#include "kvcache/simd/targets.h"
// After targets.h.
#include "hwy/highway.h"
#include "hwy/targets.h"

namespace nibble::simd {

namespace {

// All that our AVX-512 target uses. Highway 1.0.3 does not look for GFNI, which a virtual machine may hide.
bool HasAvx512(int64_t targets) {
#if defined(__x86_64__)
  return (targets & HWY_AVX3_DL) != 0 && __builtin_cpu_supports("gfni");
#else
  return (targets & HWY_AVX3_DL) != 0;
#endif
}

}  // namespace

std::string_view Name(Isa isa) {
  switch (isa) {
    case Isa::kScalar:
      return "scalar";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512:
      return "avx512";
  }
  return "";
}

const std::vector<Isa>& SupportedIsas() {
  static const std::vector<Isa>* const supported = [] {
    auto* isas = new std::vector<Isa>{Isa::kScalar};
    const int64_t targets = hwy::SupportedTargets();
    if (targets & HWY_AVX2) isas->push_back(Isa::kAvx2);
    if (HasAvx512(targets)) isas->push_back(Isa::kAvx512);
    return isas;
  }();
  return *supported;
}

absl::StatusOr<Isa> ChooseIsa(std::string_view name) {
  if (name.empty()) return SupportedIsas().back();
  for (Isa isa : SupportedIsas()) {
    if (Name(isa) == name) return isa;
  }
  for (Isa isa : {Isa::kScalar, Isa::kAvx2, Isa::kAvx512}) {
    if (Name(isa) == name) {
      return absl::InvalidArgumentError(
          absl::StrCat("isa: this machine lacks ", std::string(name),
                       isa == Isa::kAvx512 ? " as of Ice Lake (VNNI, VBMI2, VAES, GFNI …)" : ""));
    }
  }
  return absl::InvalidArgumentError(absl::StrCat("isa: '", std::string(name), "' is none of scalar, avx2, avx512"));
}

}  // namespace nibble::simd
