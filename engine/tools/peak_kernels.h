// The loops that machine.cc times, compiled for every instruction set.
#ifndef NIBBLE_ENGINE_TOOLS_PEAK_KERNELS_H_
#define NIBBLE_ENGINE_TOOLS_PEAK_KERNELS_H_

#include <cstdint>

#include "absl/types/span.h"
#include "kvcache/simd/isa.h"

namespace nibble::engine {

struct PeakKernels {
  // Multiplies bytes into independent int32 accumulators, `rounds` times; returns the multiply-adds done. What `*sink`
  // becomes means nothing: it keeps the work alive.
  int64_t (*int8_macs)(int64_t rounds, int32_t* sink);
  // Reads all of the values. REQUIRES: a multiple of 64 of them.
  float (*read)(absl::Span<const float> values);
};

const PeakKernels& PeakKernelsFor(simd::Isa isa);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_TOOLS_PEAK_KERNELS_H_
