// The delta file: what `nibble delta compress` makes of a fine-tune and its base. It is a safetensors file
// (engine/weights/safetensors.h) and nothing else: no pickle, no archive.
//
// Metadata: format "nibble-delta", format_version "1", and the provenance. Tensors, for each tensor of the base that
// the fine-tune changed, under its name in a WeightSource:
//   blk.0.attn_q.weight.signs  U32  [planes, rows, ceil(cols / 32)]   for the projections: q, k, v, o, gate, up, down
//   blk.0.attn_q.weight.scale  F32  [planes, 1] or [planes, rows]
//   output_norm.weight.codes   I8   [rows, cols]                      for all others; of a vector rows is 1
//   output_norm.weight.scale   F32  [rows]
// weight_deltas.h says what the numbers mean.
#ifndef NIBBLE_ENGINE_ADAPTERS_DELTA_FILE_H_
#define NIBBLE_ENGINE_ADAPTERS_DELTA_FILE_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/adapters/weight_deltas.h"
#include "engine/weights/weight_source.h"

namespace nibble::engine {

inline constexpr char kDeltaFormat[] = "nibble-delta";  // metadata "format"
inline constexpr uint64_t kMaxDeltaBytes = uint64_t{16} << 30;
inline constexpr uint64_t kMaxDeltaTextBytes = 256;           // of method; at least 1
inline constexpr uint64_t kMaxDeltaLicenseBytes = 256 << 10;  // 0: none
inline constexpr float kMaxDeltaScale = 1e4f;                 // weights are far below: what is above is damage

struct DeltaProvenance {
  std::string base_sha256;   // ModelSha256 of the base's weights
  std::string tuned_sha256;  // and of the fine-tune's
  std::string method;        // how scales were found, for people
  std::string license;       // of the fine-tune, as it came; empty: none
};

struct DeltaFile {
  DeltaProvenance provenance;
  std::map<std::string, SignDelta, std::less<>> signs;  // of projections (layer_products.h), by the tensor's name
  std::map<std::string, CodeDelta, std::less<>> codes;  // of all others
};

// REQUIRES: what ParseDelta proves.
std::string SerializeDelta(const DeltaFile& file);

// FAILED_PRECONDITION names the field and its offset for: another format or version; a hash that is none; a tensor that
// lacks its scale, or is of another type or number of dimensions; scales that are not finite or beyond kMaxDeltaScale;
// signs for what is no projection, or codes for what is one; any other tensor. The numbers are copied out of `bytes`;
// `pause` is called between pieces of the work.
absl::StatusOr<DeltaFile> ParseDelta(absl::Span<const std::byte> bytes, absl::FunctionRef<void()> pause);

// Parses a file, read into memory: what happens to it later has no effect. Errors name the path.
absl::StatusOr<DeltaFile> ReadDelta(const std::string& path);

// FAILED_PRECONDITION, naming the tensor, for a base with rotated weights (kH8_0): its products see turned inputs, and
// no adapter is made for it or runs with it.
absl::Status CheckNotRotated(const WeightSource& base);

// FAILED_PRECONDITION where the delta was made for another base (`base_sha256` is ModelSha256 of `base`), or holds a
// tensor that the base lacks or has in another shape, or has bits past the last column; of CheckNotRotated.
absl::Status CheckDelta(const DeltaFile& delta, const WeightSource& base, std::string_view base_sha256);

// The base's tensors with the delta's numbers added as they are read: no weight is copied. Both must outlive the
// result. REQUIRES: CheckDelta is OK.
std::unique_ptr<WeightSource> MergedWeights(const WeightSource& base, const DeltaFile& delta);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_ADAPTERS_DELTA_FILE_H_
