// Radians per position of each rotated pair.
#ifndef NIBBLE_ENGINE_BACKENDS_ROPE_FREQUENCIES_H_
#define NIBBLE_ENGINE_BACKENDS_ROPE_FREQUENCIES_H_

#include <vector>

#include "engine/backends/backend.h"

namespace nibble::engine {

// base^(-2i / dims) / linear_factor / factors[i], [dims / 2]. The same bits on every machine.
std::vector<double> RopeFrequencies(const RopeShape& shape, double base, double linear_factor);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_BACKENDS_ROPE_FREQUENCIES_H_
