// Streams of random numbers that do not disturb each other.
#ifndef NIBBLE_LOADTEST_RANDOM_H_
#define NIBBLE_LOADTEST_RANDOM_H_

#include <cstdint>
#include <random>

namespace nibble::loadtest {

// A stream of its own for everything that has a number.
inline std::mt19937_64 RandomOf(uint64_t seed, uint64_t number) {
  std::seed_seq words = {seed, seed >> 32, number, number >> 32};
  return std::mt19937_64(words);
}

}  // namespace nibble::loadtest

#endif  // NIBBLE_LOADTEST_RANDOM_H_
