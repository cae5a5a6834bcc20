#include "engine/weights/gguf_value.h"

#include <cmath>
#include <cstring>
#include <iterator>
#include <limits>
#include <type_traits>

#include "engine/weights/byte_reader.h"
#include "kvcache/base/check.h"

namespace nibble::engine {
namespace {

struct TypeRow {
  std::string_view name;
  uint64_t bytes;
};

// By type id.
constexpr TypeRow kTypes[] = {
    {"uint8", 1}, {"int8", 1},   {"uint16", 2}, {"int16", 2},  {"uint32", 4}, {"int32", 4},   {"float32", 4},
    {"bool", 1},  {"string", 0}, {"array", 0},  {"uint64", 8}, {"int64", 8},  {"float64", 8},
};

template <typename T>
T LoadElement(const GgufValue& value, uint64_t index) {
  T element;
  std::memcpy(&element, value.payload.data() + index * sizeof(T), sizeof(T));
  return element;
}

absl::Status WrongType(const GgufValue& value, std::string_view wanted) {
  return ValueError(value, "is " + std::string(value.is_array ? "an array of " : "") +
                               std::string(GgufTypeName(value.type)) + ", not " + std::string(wanted));
}

template <typename T>
absl::StatusOr<uint64_t> NonNegative(const GgufValue& value) {
  const T number = LoadElement<T>(value, 0);
  if constexpr (std::is_signed_v<T>) {
    if (number < 0) return ValueError(value, "is negative: " + std::to_string(number));
  }
  return static_cast<uint64_t>(number);
}

}  // namespace

uint64_t GgufElementBytes(GgufType type) {
  const auto id = static_cast<size_t>(type);
  NIBBLE_CHECK(id < std::size(kTypes));
  return kTypes[id].bytes;
}

std::string_view GgufTypeName(GgufType type) {
  const auto id = static_cast<size_t>(type);
  NIBBLE_CHECK(id < std::size(kTypes));
  return kTypes[id].name;
}

absl::Status ValueError(const GgufValue& value, std::string_view what) {
  return FormatError("key " + Quoted(value.key), value.offset, what);
}

absl::StatusOr<uint64_t> AsUnsigned(const GgufValue& value) {
  if (value.is_array) return WrongType(value, "an integer");
  switch (value.type) {
    case GgufType::kUint8:
      return NonNegative<uint8_t>(value);
    case GgufType::kInt8:
      return NonNegative<int8_t>(value);
    case GgufType::kUint16:
      return NonNegative<uint16_t>(value);
    case GgufType::kInt16:
      return NonNegative<int16_t>(value);
    case GgufType::kUint32:
      return NonNegative<uint32_t>(value);
    case GgufType::kInt32:
      return NonNegative<int32_t>(value);
    case GgufType::kUint64:
      return NonNegative<uint64_t>(value);
    case GgufType::kInt64:
      return NonNegative<int64_t>(value);
    default:
      return WrongType(value, "an integer");
  }
}

absl::StatusOr<float> AsFloat(const GgufValue& value) {
  const bool is_double = value.type == GgufType::kFloat64;
  if (value.is_array || (!is_double && value.type != GgufType::kFloat32)) return WrongType(value, "a float");
  const double wide = is_double ? LoadElement<double>(value, 0) : LoadElement<float>(value, 0);
  if (!(std::fabs(wide) <= std::numeric_limits<float>::max())) return ValueError(value, "is not a finite float");
  return static_cast<float>(wide);
}

absl::StatusOr<bool> AsBool(const GgufValue& value) {
  if (value.is_array || value.type != GgufType::kBool) return WrongType(value, "a bool");
  return LoadElement<uint8_t>(value, 0) != 0;
}

absl::StatusOr<std::string_view> AsString(const GgufValue& value) {
  if (value.is_array || value.type != GgufType::kString) return WrongType(value, "a string");
  return std::string_view(reinterpret_cast<const char*>(value.payload.data()) + sizeof(uint64_t),
                          value.payload.size() - sizeof(uint64_t));
}

absl::StatusOr<std::vector<std::string_view>> AsStrings(const GgufValue& value) {
  if (!value.is_array || value.type != GgufType::kString) return WrongType(value, "an array of strings");
  std::vector<std::string_view> strings(value.count);
  ByteReader reader(value.payload, value.offset);
  for (std::string_view& string : strings) {
    NIBBLE_CHECK(reader.ReadString(value.key, kGgufMaxStringBytes, &string).ok());  // proven by Parse
  }
  return strings;
}

absl::StatusOr<std::vector<int32_t>> AsInts(const GgufValue& value) {
  if (!value.is_array || (value.type != GgufType::kInt32 && value.type != GgufType::kUint32)) {
    return WrongType(value, "an array of int32");
  }
  std::vector<int32_t> ints(value.count);
  for (uint64_t i = 0; i < value.count; ++i) {
    ints[i] = LoadElement<int32_t>(value, i);
    if (value.type == GgufType::kUint32 && ints[i] < 0) {
      return ValueError(value, "element " + std::to_string(i) + " is above 2^31 - 1");
    }
  }
  return ints;
}

absl::StatusOr<std::vector<float>> AsFloats(const GgufValue& value) {
  if (!value.is_array || value.type != GgufType::kFloat32) return WrongType(value, "an array of float32");
  std::vector<float> floats(value.count);
  for (uint64_t i = 0; i < value.count; ++i) {
    floats[i] = LoadElement<float>(value, i);
    if (!std::isfinite(floats[i])) return ValueError(value, "element " + std::to_string(i) + " is not finite");
  }
  return floats;
}

}  // namespace nibble::engine
