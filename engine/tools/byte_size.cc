#include "engine/tools/byte_size.h"

#include <limits>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace nibble::engine {
namespace {

struct Unit {
  const char* suffix;
  int64_t bytes;
};
constexpr Unit kUnits[] = {{"GiB", int64_t{1} << 30}, {"MiB", int64_t{1} << 20}, {"KiB", int64_t{1} << 10}};

}  // namespace

bool AbslParseFlag(absl::string_view text, ByteSize* size, std::string* error) {
  int64_t unit_bytes = 1;
  for (const Unit& unit : kUnits) {
    if (absl::ConsumeSuffix(&text, unit.suffix)) {
      unit_bytes = unit.bytes;
      break;
    }
  }
  const bool digits_only = text.find_first_not_of("0123456789") == absl::string_view::npos;
  int64_t count = 0;
  if (!digits_only || !absl::SimpleAtoi(text, &count) || count > std::numeric_limits<int64_t>::max() / unit_bytes) {
    *error = "expected a whole number of bytes, KiB, MiB or GiB";
    return false;
  }
  size->bytes = count * unit_bytes;
  return true;
}

std::string AbslUnparseFlag(const ByteSize& size) {
  for (const Unit& unit : kUnits) {
    if (size.bytes != 0 && size.bytes % unit.bytes == 0) return absl::StrCat(size.bytes / unit.bytes, unit.suffix);
  }
  return absl::StrCat(size.bytes);
}

}  // namespace nibble::engine
