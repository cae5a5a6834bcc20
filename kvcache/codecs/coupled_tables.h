// What the coupled codecs keep in memory of a Calibration, made once: a validated model, the matrices that queries and
// mixes go through, and the codebooks. coupled.h says what the numbers mean.
#ifndef NIBBLE_KVCACHE_CODECS_COUPLED_TABLES_H_
#define NIBBLE_KVCACHE_CODECS_COUPLED_TABLES_H_

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "hwy/aligned_allocator.h"
#include "kvcache/codecs/codec.h"
#include "kvcache/codecs/span_turns.h"

namespace nibble::kv {

inline constexpr int kMaxCoupledHeadDim = 512;
inline constexpr int kMaxGroupCoefficients = 16;
inline constexpr int kMatrixLimit = 2047;
inline constexpr int kCodeVector = 2 * kPageTokens;  // codes of one group that a kernel may look up together

// Of the integers that a query is rounded to.
inline int QueryLimit(int head_dim) { return std::min(32767, 2147483647 / (kMatrixLimit * head_dim)); }

// Where the code of a key's token lies among the 32 of its group: bytes [8 * i, 8 * i + 4) are tokens 4 * i and on, the
// four after them tokens 16 + 4 * i and on, so that unpacking keeps sixteen tokens together.
constexpr int KeyPlace(int token) { return token % 16 / 4 * 8 + token / 16 * 4 + token % 4; }

// Where place i of the turned order comes to lie when two vectors of sixteen are narrowed to one: four of the one and
// four of the other in turn.
constexpr int MatrixColumn(int i) { return i / 32 * 32 + i % 16 / 4 * 8 + i % 32 / 16 * 4 + i % 4; }

// An array at a multiple of the vector size.
template <typename T>
struct Aligned {
  hwy::AlignedFreeUniquePtr<T[]> data;
  int64_t size = 0;

  Aligned() = default;
  explicit Aligned(int64_t n) : data(hwy::AllocateAligned<T>(n)), size(n) { std::fill_n(data.get(), n, T()); }
  explicit Aligned(const std::vector<T>& from) : Aligned(static_cast<int64_t>(from.size())) {
    std::copy(from.begin(), from.end(), data.get());
  }
  int64_t bytes() const { return size * static_cast<int64_t>(sizeof(T)); }
};

// The keys or the values of one head.
struct HeadTables {
  int coefficients = 0;
  int padded = 0;                   // coefficients, rounded up to a multiple of 16
  std::vector<int32_t> group_ends;  // as in HeadCode
  Aligned<float> mean;              // [head_dim]
  Aligned<uint16_t> analysis;       // f16, [coefficients][head_dim]
  Aligned<float> centroid_scale;    // [coefficients]
  int entries = 0;                  // of a codebook: kCentroids, or kMirroredEntries
  uint8_t centroid_offset = 0;      // 128 of keys, which dot products want unsigned
  Aligned<uint8_t> centroids;       // [padded][entries], each int8 plus the offset
  Aligned<uint16_t> code_at;        // [padded], kCodeVector times the coefficient's group; 0 where filled up

  int64_t code_bytes() const { return static_cast<int64_t>(group_ends.size()) * kPageTokens; }
  bool mirrored() const { return entries == kMirroredEntries; }
  int64_t bytes() const;  // held beside the struct
};

struct KeyTables : HeadTables {
  Aligned<float> turned_mean;  // [size of the turned order]
  Aligned<int16_t> matrix;     // m, [padded / 16][size of the turned order / 2][16][2], columns at MatrixColumn
  Aligned<float> row_scales;   // s, [padded]
};

struct ValueTables : HeadTables {
  Aligned<uint16_t> synthesis;  // f16, [coefficients][head_dim]
};

struct CoupledTables {
  // Copies what it needs of `calibration`. REQUIRES: CheckCoupled is OK.
  CoupledTables(const CodecModel& model, const Calibration& calibration);

  int64_t table_bytes() const;

  int num_kv_heads, head_dim;
  std::vector<SpanTurns> turns;    // [ropes]
  std::vector<int> rope_of_layer;  // [layers]
  std::vector<KeyTables> keys;     // [layers * heads]
  std::vector<ValueTables> values;
  std::vector<int64_t> offsets;  // [layers * heads + 1]
  int largest_turned = 0;        // of all ropes
  int largest_padded = 0;        // of all values
};

// INVALID_ARGUMENT naming what is wrong and where.
absl::Status CheckCoupled(const CodecModel& model, const Calibration* calibration, std::string_view name);

}  // namespace nibble::kv

#endif  // NIBBLE_KVCACHE_CODECS_COUPLED_TABLES_H_
