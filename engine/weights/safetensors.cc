#include "engine/weights/safetensors.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "engine/weights/byte_reader.h"
#include "engine/weights/checked.h"
#include "engine/weights/safetensors_header.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

constexpr uint64_t kLengthBytes = 8;

// In the order of the enum.
constexpr SafetensorsTypeTraits kTypes[] = {
    {SafetensorsType::kBool, "BOOL", 1},      {SafetensorsType::kU8, "U8", 1},
    {SafetensorsType::kI8, "I8", 1},          {SafetensorsType::kF8E5M2, "F8_E5M2", 1},
    {SafetensorsType::kF8E4M3, "F8_E4M3", 1}, {SafetensorsType::kI16, "I16", 2},
    {SafetensorsType::kU16, "U16", 2},        {SafetensorsType::kF16, "F16", 2},
    {SafetensorsType::kBF16, "BF16", 2},      {SafetensorsType::kI32, "I32", 4},
    {SafetensorsType::kU32, "U32", 4},        {SafetensorsType::kF32, "F32", 4},
    {SafetensorsType::kF64, "F64", 8},        {SafetensorsType::kI64, "I64", 8},
    {SafetensorsType::kU64, "U64", 8},
};

// Other files that people have for tensors. Only consulted for a file that is no safetensors file: eight bytes of a
// length can look like anything.
constexpr std::pair<std::string_view, std::string_view> kForeign[] = {
    {"PK", "a zip archive, as torch.save writes"},
    {"\x1f\x8b", "compressed by gzip"},
    {"\x80", "a Python pickle, as torch.save writes"},
    {"GGUF", "a GGUF file"},
};

absl::Status NotSafetensors(std::string_view text, std::string_view field, uint64_t offset, const std::string& what) {
  for (const auto& [magic, kind] : kForeign) {
    if (text.substr(0, magic.size()) == magic) {
      return FormatError("magic", 0, "the file is " + std::string(kind) + ", not safetensors");
    }
  }
  return FormatError(field, offset, what);
}

// The JSON text, without the length before it.
absl::StatusOr<std::string_view> HeaderText(absl::Span<const std::byte> bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const auto refuse_length = [&](const std::string& what) { return NotSafetensors(text, "header length", 0, what); };
  if (bytes.size() < kLengthBytes) {
    return refuse_length("needs 8 bytes, the file has " + std::to_string(bytes.size()));
  }
  uint64_t length = 0;
  NIBBLE_RETURN_IF_ERROR(ByteReader(bytes).Read("header length", &length));
  const std::string is = "is " + std::to_string(length);
  if (length < kSafetensorsMinHeaderBytes) return refuse_length(is + ", too short for a header");
  if (length > kSafetensorsMaxHeaderBytes) {
    return refuse_length(is + ", above the limit of " + std::to_string(kSafetensorsMaxHeaderBytes));
  }
  if (length > bytes.size() - kLengthBytes) {
    return refuse_length(is + ", the file has " + std::to_string(bytes.size() - kLengthBytes) + " bytes left");
  }
  if (text[kLengthBytes] != '{') return NotSafetensors(text, "header", kLengthBytes, "does not start with {");
  return text.substr(kLengthBytes, length);
}

absl::Status OffsetsError(const SafetensorsEntry& entry, const std::string& what) {
  return FormatError("data_offsets of tensor " + Quoted(entry.tensor.name), entry.tensor.header_offset,
                     "[" + std::to_string(entry.begin) + ", " + std::to_string(entry.end) + "] " + what);
}

absl::Status CheckSize(const SafetensorsEntry& entry) {
  if (entry.end < entry.begin) return OffsetsError(entry, "end before they begin");
  Checked bytes = TraitsOf(entry.tensor.type).bytes;
  for (const int64_t dim : entry.tensor.shape) bytes = bytes * static_cast<uint64_t>(dim);
  if (!bytes.ok()) {
    return FormatError("shape of tensor " + Quoted(entry.tensor.name), entry.tensor.header_offset,
                       "has more than 2^64 - 1 bytes");
  }
  if (bytes.value() == entry.end - entry.begin) return absl::OkStatus();
  return OffsetsError(entry, "are not the " + std::to_string(bytes.value()) + " bytes of its dtype and shape");
}

// Points the tensors, sorted by offset, at their data: each must begin where the one before it ends.
absl::Status PlaceTensors(absl::Span<const std::byte> data, absl::Span<SafetensorsEntry> sorted) {
  uint64_t filled = 0;
  for (SafetensorsEntry& entry : sorted) {
    NIBBLE_RETURN_IF_ERROR(CheckSize(entry));
    if (entry.begin != filled) {
      return OffsetsError(entry, (entry.begin < filled ? "overlap the tensor before, which ends at "
                                                       : "leave a hole after the tensor before, which ends at ") +
                                     std::to_string(filled));
    }
    if (entry.end > data.size()) {
      return OffsetsError(entry, "reach past the file's " + std::to_string(data.size()) + " bytes of data");
    }
    entry.tensor.data = data.subspan(entry.begin, entry.end - entry.begin);
    filled = entry.end;
  }
  return absl::OkStatus();
}

}  // namespace

const SafetensorsTypeTraits& TraitsOf(SafetensorsType type) { return kTypes[static_cast<size_t>(type)]; }

const SafetensorsTypeTraits* FindSafetensorsType(std::string_view name) {
  const auto* found = std::find_if(std::begin(kTypes), std::end(kTypes),
                                   [name](const SafetensorsTypeTraits& traits) { return traits.name == name; });
  return found != std::end(kTypes) ? found : nullptr;
}

absl::StatusOr<SafetensorsFile> SafetensorsFile::Parse(absl::Span<const std::byte> bytes) {
  NIBBLE_ASSIGN_OR_RETURN(const std::string_view text, HeaderText(bytes));
  NIBBLE_ASSIGN_OR_RETURN(SafetensorsHeader header, ParseSafetensorsHeader(text, kLengthBytes));
  std::vector<SafetensorsEntry>& entries = header.entries;
  std::sort(entries.begin(), entries.end(), [](const SafetensorsEntry& a, const SafetensorsEntry& b) {
    return std::pair(a.begin, a.end) < std::pair(b.begin, b.end);
  });
  const absl::Span<const std::byte> data = bytes.subspan(kLengthBytes + text.size());
  NIBBLE_RETURN_IF_ERROR(PlaceTensors(data, absl::MakeSpan(entries)));
  const uint64_t filled = entries.empty() ? 0 : entries.back().end;
  if (filled < data.size()) {
    return FormatError("tensor data", kLengthBytes + text.size() + filled,
                       std::to_string(data.size() - filled) + " bytes belong to no tensor");
  }
  SafetensorsFile file;
  file.metadata_ = std::move(header.metadata);
  for (SafetensorsEntry& entry : entries) file.tensors_.push_back(std::move(entry.tensor));
  file.by_name_.resize(file.tensors_.size());
  std::iota(file.by_name_.begin(), file.by_name_.end(), 0u);
  std::sort(file.by_name_.begin(), file.by_name_.end(),
            [&file](uint32_t a, uint32_t b) { return file.tensors_[a].name < file.tensors_[b].name; });
  return file;
}

const std::string* SafetensorsFile::FindMetadata(std::string_view key) const {
  const auto found = metadata_.find(key);
  return found != metadata_.end() ? &found->second : nullptr;
}

const SafetensorsTensor* SafetensorsFile::Find(std::string_view name) const {
  const auto less = [this](uint32_t index, std::string_view wanted) { return tensors_[index].name < wanted; };
  const auto found = std::lower_bound(by_name_.begin(), by_name_.end(), name, less);
  return found != by_name_.end() && tensors_[*found].name == name ? &tensors_[*found] : nullptr;
}

}  // namespace nibble::engine
