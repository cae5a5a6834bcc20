#include "engine/backends/rope_frequencies.h"

#include "engine/sampling/log_reference.h"
#include "kvcache/simd/portable_math.h"

namespace nibble::engine {

std::vector<double> RopeFrequencies(const RopeShape& shape, double base, double linear_factor) {
  const double log_base = LogReference(base);
  std::vector<double> frequencies(shape.dims / 2);
  for (size_t i = 0; i < frequencies.size(); ++i) {
    frequencies[i] = simd::PortableExp(-2.0 * static_cast<double>(i) / shape.dims * log_base) / linear_factor;
    if (!shape.factors.empty()) frequencies[i] /= shape.factors[i];
  }
  return frequencies;
}

}  // namespace nibble::engine
