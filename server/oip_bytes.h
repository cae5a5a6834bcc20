// The four little-endian bytes that the Open Inference Protocol puts before a string, and UINT32 elements.
#ifndef NIBBLE_SERVER_OIP_BYTES_H_
#define NIBBLE_SERVER_OIP_BYTES_H_

#include <cstddef>
#include <cstdint>
#include <string>

namespace nibble::server {

inline constexpr size_t kOipLengthBytes = 4;

inline void AppendLittleEndian(uint32_t value, std::string* to) {
  for (size_t i = 0; i < kOipLengthBytes; ++i) to->push_back(static_cast<char>(value >> (8 * i)));
}

// REQUIRES: four bytes at `from`.
inline uint32_t LoadLittleEndian(const char* from) {
  uint32_t value = 0;
  for (size_t i = 0; i < kOipLengthBytes; ++i) value |= uint32_t{static_cast<uint8_t>(from[i])} << (8 * i);
  return value;
}

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_OIP_BYTES_H_
