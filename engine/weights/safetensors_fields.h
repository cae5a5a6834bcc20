// What the readers of our safetensors files (calibrations, deltas, quantized models) prove alike, and how they name
// what is wrong.
#ifndef NIBBLE_ENGINE_WEIGHTS_SAFETENSORS_FIELDS_H_
#define NIBBLE_ENGINE_WEIGHTS_SAFETENSORS_FIELDS_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/weights/safetensors.h"

namespace nibble::engine {

// Where the header begins, for errors about what is not there.
inline constexpr uint64_t kSafetensorsHeaderOffset = 8;

// FAILED_PRECONDITION: "metadata "key" at byte …: `what`", "tensor "name" …".
absl::Status MetadataError(const std::string& key, const std::string& what);
absl::Status TensorError(const SafetensorsTensor& tensor, const std::string& what);

// Metadata that must be there, of that many bytes.
absl::StatusOr<std::string> MetadataText(const SafetensorsFile& file, const std::string& key, uint64_t least_bytes,
                                         uint64_t most_bytes);
// The metadata must have `key` with exactly this text.
absl::Status CheckMetadata(const SafetensorsFile& file, const std::string& key, const std::string& wanted);
// 64 lower-case hexadecimal digits.
absl::StatusOr<std::string> Sha256Of(const SafetensorsFile& file, const std::string& key);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_WEIGHTS_SAFETENSORS_FIELDS_H_
