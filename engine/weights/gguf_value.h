// Metadata values as numbers and strings. Every error is FAILED_PRECONDITION and names the key and its byte offset.
#ifndef NIBBLE_ENGINE_WEIGHTS_GGUF_VALUE_H_
#define NIBBLE_ENGINE_WEIGHTS_GGUF_VALUE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/weights/gguf.h"

namespace nibble::engine {

// Bytes of one element; 0 for strings and arrays, whose size is in the file. REQUIRES: type <= kFloat64.
uint64_t GgufElementBytes(GgufType type);
// "uint32", "string", …
std::string_view GgufTypeName(GgufType type);

// A problem with this value: names its key and offset.
absl::Status ValueError(const GgufValue& value, std::string_view what);

// Scalars. Integers of any width and sign are accepted where the value is not negative.
absl::StatusOr<uint64_t> AsUnsigned(const GgufValue& value);
// Finite only.
absl::StatusOr<float> AsFloat(const GgufValue& value);
absl::StatusOr<bool> AsBool(const GgufValue& value);
absl::StatusOr<std::string_view> AsString(const GgufValue& value);

// Arrays. The memory taken is at most four times the payload's.
absl::StatusOr<std::vector<std::string_view>> AsStrings(const GgufValue& value);
absl::StatusOr<std::vector<int32_t>> AsInts(const GgufValue& value);  // int32 or uint32 elements that fit
absl::StatusOr<std::vector<float>> AsFloats(const GgufValue& value);  // float32 elements, finite

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_WEIGHTS_GGUF_VALUE_H_
