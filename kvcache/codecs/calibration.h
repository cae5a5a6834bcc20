// What `nibble calibrate` found out about one model for one coupled codec, as plain numbers: for every layer, K and V,
// and KV head a linear transform and codebooks. engine/quant reads and writes it as a `.nibblekv` file.
//
// A vector x of one head (keys turned back by RoPE to the start of their span; values as they are) has coefficients
//   z = analysis * (x - mean)         and is restored as         x' = synthesis * z' + mean,
// z' being made of the nearest centroid of each group of coefficients. Coefficients outside every group are not kept:
// they have no row in `analysis`. For `cq*`, mean is 0 and both transforms are the identity. The transforms are
// halves, as in the file.
//
// A code is one byte, of a codebook that has an entry for each (256 entries) or is mirrored (64): then bits 0 to 5 are
// the entry, bit 6 turns the sign of those of its coefficients whose number in the head is even, bit 7 of the others.
// In a basis where coefficients are uncorrelated and symmetric about their mean, 64 mirrored entries lose hardly more
// than 256 (engine/quant/calibration/README.md), and one permutation of a register looks them up.
#ifndef NIBBLE_KVCACHE_CODECS_CALIBRATION_H_
#define NIBBLE_KVCACHE_CODECS_CALIBRATION_H_

#include <cstdint>
#include <string>
#include <vector>

namespace nibble::kv {

// Pages of a span, counted from position 0: its keys are turned back to one position, so that a query is brought into
// their frame once for all of them.
inline constexpr int kSpanPages = 8;
inline constexpr int kCentroids = 256;       // codes of a group
inline constexpr int kMirroredEntries = 64;  // entries of a mirrored codebook

// Whether a mirrored code turns the sign of a coefficient.
constexpr bool IsTurned(int code, int coefficient) { return (code >> (6 + coefficient % 2) & 1) != 0; }

struct HeadCode {
  std::vector<float> mean;            // [head_dim]
  std::vector<uint16_t> analysis;     // f16, [coefficients, head_dim]
  std::vector<uint16_t> synthesis;    // f16, [head_dim, coefficients]
  std::vector<int32_t> group_ends;    // group g holds coefficients [group_ends[g - 1], group_ends[g]); never empty
  std::vector<float> centroid_scale;  // [coefficients]: a centroid's coefficient is its int8 times this
  std::vector<int8_t> centroids;  // [coefficients][entries]: of each coefficient, its value in each entry of its group

  int coefficients() const { return static_cast<int>(centroid_scale.size()); }
  int groups() const { return static_cast<int>(group_ends.size()); }
};

struct LayerCode {
  std::vector<HeadCode> keys, values;  // [num_kv_heads]
};

struct Calibration {
  std::string codec;         // the name it was made for
  int entries = kCentroids;  // of every codebook: kCentroids, or kMirroredEntries
  std::vector<LayerCode> layers;
};

}  // namespace nibble::kv

#endif  // NIBBLE_KVCACHE_CODECS_CALIBRATION_H_
