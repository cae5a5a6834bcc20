// The largest single allocation since the last reset, of the whole program that links largest_allocation.cc: what a
// count that lies would show in. Not for concurrent tests.
#ifndef NIBBLE_TESTS_ENGINE_WEIGHTS_LARGEST_ALLOCATION_H_
#define NIBBLE_TESTS_ENGINE_WEIGHTS_LARGEST_ALLOCATION_H_

#include <cstddef>

namespace nibble {

inline size_t largest_allocation_bytes = 0;

}  // namespace nibble

#endif  // NIBBLE_TESTS_ENGINE_WEIGHTS_LARGEST_ALLOCATION_H_
