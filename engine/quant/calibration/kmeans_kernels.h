// The inner loop of kmeans.h. Samples lie in the lanes; the same bits on every instruction set.
#ifndef NIBBLE_ENGINE_QUANT_CALIBRATION_KMEANS_KERNELS_H_
#define NIBBLE_ENGINE_QUANT_CALIBRATION_KMEANS_KERNELS_H_

#include <cstdint>

#include "engine/quant/calibration/rate_allocation.h"
#include "kvcache/simd/isa.h"

namespace nibble::engine {

struct NearestArgs {
  const float* samples = nullptr;        // [dims][stride]
  int64_t stride = 0;                    // at least count up to a multiple of 16
  int64_t count = 0;                     // samples
  const float* centroids = nullptr;      // [num_centroids][dims]
  const float* half_energies = nullptr;  // [num_centroids]: |c|^2 / 2
  int num_centroids = 0;
  int32_t* nearest = nullptr;  // out, [stride]: the lowest index of equals
  float* scores = nullptr;     // out, [stride]: the largest x . c - |c|^2 / 2
};

using NearestKernel = void (*)(const NearestArgs& args);

// REQUIRES: 1 <= dims <= kMaxGroupCoefficients.
NearestKernel NearestKernelFor(simd::Isa isa, int dims);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_QUANT_CALIBRATION_KMEANS_KERNELS_H_
