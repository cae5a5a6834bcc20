// Weights as integer codes in groups of 32 inputs: value = scale * code + min.
//
// Q4_0, Q4_1, Q4_K, Q5_0, Q5_1, Q5_K and Q8_0 map onto it without another rounding. H8_0 does too, but its values are
// those of turned weights, for turned inputs (engine/weights/hadamard.h). Everything else is rounded
// here: `w8` to symmetric int8 with an f16 scale, `w4` to unsigned 4 bits with f16 scale and min.
#ifndef NIBBLE_ENGINE_QUANT_WEIGHT_GROUPS_H_
#define NIBBLE_ENGINE_QUANT_WEIGHT_GROUPS_H_

#include <cstdint>

#include "absl/types/span.h"
#include "engine/weights/weight_source.h"

namespace nibble::engine {

inline constexpr int kGroupSize = 32;

// How the groups of one matrix are kept.
struct GroupFormat {
  int bits = 8;             // 4: codes 0..15, always with min; 8: codes -128..127
  bool has_min = false;     // otherwise min is 0
  bool half_params = true;  // scale and min are f16 exactly; otherwise f32

  bool operator==(const GroupFormat&) const = default;
};

// Whether the tensor's blocks are such groups already.
bool HasGroupCodes(const Tensor& tensor);

enum class GroupRounding { kAsInFile, kToW8, kToW4 };

// A tensor with a delta has no codes of its own: it is rounded as one in float is.
GroupFormat FormatOf(const Tensor& tensor, GroupRounding rounding);

// Whether ReadGroupRow gives the codes of turned weights: of kH8_0, unless they are rounded to 4 bits.
bool HasRotatedCodes(const Tensor& tensor, GroupRounding rounding);

// One row of a matrix. codes: [groups * 32]; scales, mins: [groups]. Past the row's end the codes stand for 0.0 where
// the group is rounded here; they are never seen, since inputs past the end meet zero activations.
struct GroupRow {
  absl::Span<int8_t> codes;
  absl::Span<float> scales;
  absl::Span<float> mins;
};

// REQUIRES: row < tensor.rows(); the spans hold ceil(cols / 32) groups. `scratch` holds tensor.cols() floats.
void ReadGroupRow(const Tensor& tensor, int64_t row, GroupRounding rounding, absl::Span<float> scratch, GroupRow out);

// Rounds 32 values. Exposed for tests: the largest error is half a step. A group with a value that is not finite, or
// whose scale or min is beyond f16, gets zero codes and the scale NaN: rows that meet it fault.
void RoundGroupW8(absl::Span<const float> values, int8_t* codes, float* scale);
void RoundGroupW4(absl::Span<const float> values, int8_t* codes, float* scale, float* min);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_QUANT_WEIGHT_GROUPS_H_
