// Statistics of a model become the calibration of one coupled codec: bases, bit allocation, codebooks.
//
// `klt3`, `klt2`, `klt1`: every head's coefficients in its own basis (klt.h), one-byte codes handed to heads and
// coefficients by reverse water-filling over the whole model, one mirrored codebook of 64 entries for each code.
// `cq2`, `cq1`: a code for every 4 or 8 neighbouring channels as they are, of 256 centroids (arXiv 2405.03917).
#ifndef NIBBLE_ENGINE_QUANT_CALIBRATION_CODEC_DESIGN_H_
#define NIBBLE_ENGINE_QUANT_CALIBRATION_CODEC_DESIGN_H_

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/types/span.h"
#include "engine/quant/calibration/vector_statistics.h"
#include "kvcache/codecs/calibration.h"
#include "kvcache/simd/isa.h"

namespace nibble::engine {

struct CodecDesign {
  std::string_view name;
  double bits = 0.0;         // per element
  int coupled_channels = 0;  // of `cq*`; 0: in a calibrated basis

  int entries() const { return coupled_channels > 0 ? kv::kCentroids : kv::kMirroredEntries; }
};

// The codecs that can be calibrated.
absl::Span<const CodecDesign> CodecDesigns();
// nullptr for a name that is not among them.
const CodecDesign* FindCodecDesign(std::string_view name);

// Calls body(i) for i in [0, count), in any order, on any threads; returns when all are done.
using ParallelFor = std::function<void(int64_t count, const std::function<void(int64_t)>& body)>;

struct DesignOptions {
  uint64_t seed = 0;
  int iterations = 16;  // of k-means
  double shrinkage = 0.05;
  simd::Isa isa = simd::Isa::kScalar;
};

// Bits per element and expected loss of the keys or the values of one layer.
struct DesignShare {
  double bits = 0.0;
  double loss = 0.0;      // with the codes, on samples that the codebooks were not made from
  double variance = 0.0;  // what it would be if only means were kept
};

struct DesignReport {
  double bits = 0.0;                      // per element, all codes
  double distortion = 0.0;                // loss over variance, of the whole model
  std::vector<DesignShare> keys, values;  // [layers]
};

struct DesignedCodec {
  kv::Calibration calibration;
  DesignReport report;
};

// REQUIRES: every head has a positive weight, metric trace and at least 16 samples; head_dim is a multiple of 16. The
// result is a function of the statistics, the design and the options.
DesignedCodec DesignCodec(const CodecDesign& design, const KvStatistics& statistics, const DesignOptions& options,
                          const ParallelFor& parallel_for);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_QUANT_CALIBRATION_CODEC_DESIGN_H_
