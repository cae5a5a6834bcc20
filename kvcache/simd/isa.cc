#include "kvcache/simd/isa.h"

#include "absl/strings/str_cat.h"
#include "kvcache/simd/targets.h"
// After targets.h.
#include "hwy/highway.h"
#include "hwy/targets.h"

namespace nibble::simd {

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
    if (targets & HWY_AVX3_DL) isas->push_back(Isa::kAvx512);
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
                       isa == Isa::kAvx512 ? " as of Ice Lake (VNNI, VBMI2, VAES …)" : ""));
    }
  }
  return absl::InvalidArgumentError(absl::StrCat("isa: '", std::string(name), "' is none of scalar, avx2, avx512"));
}

}  // namespace nibble::simd
