// What tells one model's weights from another's, whatever file holds them.
#ifndef NIBBLE_ENGINE_WEIGHTS_FINGERPRINT_H_
#define NIBBLE_ENGINE_WEIGHTS_FINGERPRINT_H_

#include <string>

#include "engine/weights/weight_source.h"

namespace nibble::engine {

// SHA-256, in lower-case hex, over the name, encoding, shape and data of every tensor, in the order of the names. Reads
// all data (about 1.6 GB a second with SHA extensions); metadata and the layout of the container do not count.
std::string ModelSha256(const WeightSource& weights);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_WEIGHTS_FINGERPRINT_H_
