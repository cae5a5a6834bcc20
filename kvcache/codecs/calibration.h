// What `nibble calibrate` found out about one model for one coupled codec, as plain numbers: for every layer, K and V,
// and KV head a linear transform and codebooks. engine/quant reads and writes it as a `.nibblekv` file.
//
// A vector x of one head (keys turned back by RoPE to the start of their span; values as they are) has coefficients
//   z = analysis * (x - mean)         and is restored as         x' = synthesis * z' + mean,
// z' being made of the nearest centroid of each group of coefficients. Coefficients outside every group are not kept:
// they have no row in `analysis`. For `cq*`, mean is 0 and both transforms are the identity. The transforms are
// halves, as in the file.
#ifndef NIBBLE_KVCACHE_CODECS_CALIBRATION_H_
#define NIBBLE_KVCACHE_CODECS_CALIBRATION_H_

#include <cstdint>
#include <string>
#include <vector>

namespace nibble::kv {

// Pages of a span, counted from position 0: its keys are turned back to one position, so that a query is brought into
// their frame once for all of them.
inline constexpr int kSpanPages = 8;
inline constexpr int kCentroids = 256;  // of each group: a code is one byte

struct HeadCode {
  std::vector<float> mean;            // [head_dim]
  std::vector<uint16_t> analysis;     // f16, [coefficients, head_dim]
  std::vector<uint16_t> synthesis;    // f16, [head_dim, coefficients]
  std::vector<int32_t> group_ends;    // group g holds coefficients [group_ends[g - 1], group_ends[g]); never empty
  std::vector<float> centroid_scale;  // [coefficients]: a centroid's coefficient is its int8 times this
  std::vector<int8_t> centroids;  // [coefficients][256]: of each coefficient, its value in each centroid of its group

  int coefficients() const { return static_cast<int>(centroid_scale.size()); }
  int groups() const { return static_cast<int>(group_ends.size()); }
};

struct LayerCode {
  std::vector<HeadCode> keys, values;  // [num_kv_heads]
};

struct Calibration {
  std::string codec;  // the name it was made for
  std::vector<LayerCode> layers;
};

}  // namespace nibble::kv

#endif  // NIBBLE_KVCACHE_CODECS_CALIBRATION_H_
