#include "engine/weights/gguf.h"

#include <algorithm>
#include <bit>
#include <numeric>
#include <string>

#include "engine/weights/byte_reader.h"
#include "engine/weights/checked.h"
#include "engine/weights/gguf_value.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

constexpr uint32_t kMagic = 0x46554747;                      // "GGUF"
constexpr uint64_t kMinMetadataBytes = 8 + 1 + 4 + 1;        // key, type, value
constexpr uint64_t kMinTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;  // name, n_dims, one dimension, type, offset
constexpr uint64_t kMinStringBytes = 8;                      // its length

bool IsNameByte(char c) { return c >= 0x20 && c <= 0x7e && c != '/' && c != '\\'; }

// Keys and tensor names end up in messages and lookups: printable ASCII, nothing that could be part of a path.
absl::Status CheckName(std::string_view field, uint64_t offset, std::string_view name) {
  if (name.empty()) return FormatError(field, offset, "is empty");
  if (std::all_of(name.begin(), name.end(), IsNameByte)) return absl::OkStatus();
  return FormatError(field, offset, Quoted(name) + " holds a byte that is not allowed in a name");
}

// A count is held against the bytes that its entries take at the least, before anything is allocated for them.
absl::Status CheckFits(std::string_view field, uint64_t offset, uint64_t count, uint64_t remaining,
                       uint64_t min_entry_bytes) {
  if (count <= remaining / min_entry_bytes) return absl::OkStatus();
  return FormatError(
      field, offset,
      std::to_string(count) + " entries cannot fit in the remaining " + std::to_string(remaining) + " bytes");
}

absl::Status CheckLimit(std::string_view field, uint64_t offset, uint64_t count, uint64_t limit) {
  if (count <= limit) return absl::OkStatus();
  return FormatError(field, offset, std::to_string(count) + " is above the limit of " + std::to_string(limit));
}

absl::Status CheckBools(const GgufValue& value) {
  for (uint64_t i = 0; i < value.count; ++i) {
    if (value.payload[i] > std::byte{1}) return ValueError(value, "holds a bool that is neither 0 nor 1");
  }
  return absl::OkStatus();
}

// Indices 0 … items.size()-1, sorted by `less` of two items.
template <typename Items, typename Less>
std::vector<uint32_t> SortedIndices(const Items& items, const Less& less) {
  std::vector<uint32_t> indices(items.size());
  std::iota(indices.begin(), indices.end(), 0u);
  std::sort(indices.begin(), indices.end(), [&](uint32_t a, uint32_t b) { return less(items[a], items[b]); });
  return indices;
}

}  // namespace

// One pass over the header; the first error ends it.
class GgufParser {
 public:
  explicit GgufParser(absl::Span<const std::byte> bytes) : bytes_(bytes), reader_(bytes) {}

  absl::StatusOr<GgufFile> Parse() {
    file_.size_bytes_ = bytes_.size();
    NIBBLE_RETURN_IF_ERROR(ReadPreamble());
    NIBBLE_RETURN_IF_ERROR(ReadMetadata());
    NIBBLE_RETURN_IF_ERROR(IndexKeys());
    NIBBLE_RETURN_IF_ERROR(ReadAlignment());
    NIBBLE_RETURN_IF_ERROR(ReadTensorTable());
    NIBBLE_RETURN_IF_ERROR(file_.IndexTensors());
    NIBBLE_RETURN_IF_ERROR(PlaceTensors());
    NIBBLE_RETURN_IF_ERROR(CheckOverlap());
    return std::move(file_);
  }

 private:
  absl::Status ReadPreamble();
  absl::Status ReadMetadata();
  absl::Status ReadValue(GgufValue* value);
  absl::Status ReadValueType(GgufValue* value);
  absl::Status ReadArrayHeader(GgufValue* value);
  absl::Status SkipPayload(const std::string& field, GgufValue* value);
  absl::Status IndexKeys();
  absl::Status ReadAlignment();
  absl::Status ReadTensorTable();
  absl::Status ReadTensor(GgufTensor* tensor);
  absl::Status ReadShape(const std::string& field, GgufTensor* tensor);
  absl::Status ReadEncoding(const std::string& field, GgufTensor* tensor);
  absl::Status PlaceTensors();
  absl::Status PlaceTensor(uint64_t data_start, GgufTensor* tensor);
  absl::Status CheckOverlap();

  absl::Span<const std::byte> bytes_;
  ByteReader reader_;
  uint64_t n_tensors_ = 0;
  uint64_t n_metadata_ = 0;
  GgufFile file_;
};

absl::Status GgufParser::ReadPreamble() {
  uint32_t magic = 0;
  NIBBLE_RETURN_IF_ERROR(reader_.Read("magic", &magic));
  if (magic != kMagic) return FormatError("magic", 0, "is not \"GGUF\"");
  NIBBLE_RETURN_IF_ERROR(reader_.Read("version", &file_.version_));
  if (file_.version_ > 0xffff) return FormatError("version", 4, "the file is big-endian, or no GGUF file");
  if (file_.version_ != 2 && file_.version_ != 3) {
    return FormatError("version", 4, "is " + std::to_string(file_.version_) + "; 2 and 3 are supported");
  }
  NIBBLE_RETURN_IF_ERROR(reader_.Read("tensor_count", &n_tensors_));
  NIBBLE_RETURN_IF_ERROR(reader_.Read("metadata_kv_count", &n_metadata_));
  NIBBLE_RETURN_IF_ERROR(CheckLimit("tensor_count", 8, n_tensors_, kGgufMaxTensors));
  NIBBLE_RETURN_IF_ERROR(CheckLimit("metadata_kv_count", 16, n_metadata_, kGgufMaxMetadata));
  NIBBLE_RETURN_IF_ERROR(CheckFits("tensor_count", 8, n_tensors_, reader_.remaining(), kMinTensorBytes));
  return CheckFits("metadata_kv_count", 16, n_metadata_, reader_.remaining(), kMinMetadataBytes);
}

absl::Status GgufParser::ReadMetadata() {
  file_.metadata_.resize(n_metadata_);
  for (GgufValue& value : file_.metadata_) NIBBLE_RETURN_IF_ERROR(ReadValue(&value));
  return absl::OkStatus();
}

absl::Status GgufParser::ReadValue(GgufValue* value) {
  const uint64_t key_offset = reader_.offset();
  NIBBLE_RETURN_IF_ERROR(reader_.ReadString("key", kGgufMaxKeyBytes, &value->key));
  NIBBLE_RETURN_IF_ERROR(CheckName("key", key_offset, value->key));
  NIBBLE_RETURN_IF_ERROR(ReadValueType(value));
  value->offset = reader_.offset();
  const uint64_t start = value->offset;
  NIBBLE_RETURN_IF_ERROR(SkipPayload("key " + Quoted(value->key), value));
  value->payload = bytes_.subspan(start, reader_.offset() - start);
  return value->type == GgufType::kBool ? CheckBools(*value) : absl::OkStatus();
}

absl::Status GgufParser::ReadValueType(GgufValue* value) {
  const std::string field = "type of key " + Quoted(value->key);
  uint64_t offset = reader_.offset();
  uint32_t type = 0;
  NIBBLE_RETURN_IF_ERROR(reader_.Read(field, &type));
  value->is_array = type == static_cast<uint32_t>(GgufType::kArray);
  if (value->is_array) {
    offset = reader_.offset();
    NIBBLE_RETURN_IF_ERROR(reader_.Read(field, &type));
    if (type == static_cast<uint32_t>(GgufType::kArray)) return FormatError(field, offset, "is an array of arrays");
  }
  if (type > static_cast<uint32_t>(GgufType::kFloat64)) {
    return FormatError(field, offset, std::to_string(type) + " is not a value type");
  }
  value->type = static_cast<GgufType>(type);
  return value->is_array ? ReadArrayHeader(value) : absl::OkStatus();
}

absl::Status GgufParser::ReadArrayHeader(GgufValue* value) {
  const std::string field = "array length of key " + Quoted(value->key);
  const uint64_t offset = reader_.offset();
  NIBBLE_RETURN_IF_ERROR(reader_.Read(field, &value->count));
  const uint64_t element_bytes = value->type == GgufType::kString ? kMinStringBytes : GgufElementBytes(value->type);
  return CheckFits(field, offset, value->count, reader_.remaining(), element_bytes);
}

absl::Status GgufParser::SkipPayload(const std::string& field, GgufValue* value) {
  if (value->type != GgufType::kString) {
    absl::Span<const std::byte> ignored;
    // The product cannot wrap: ReadArrayHeader held the count against the bytes left.
    return reader_.Skip(field, (Checked(value->count) * GgufElementBytes(value->type)).value(), &ignored);
  }
  std::string_view ignored;
  for (uint64_t i = 0; i < value->count; ++i) {
    NIBBLE_RETURN_IF_ERROR(reader_.ReadString(field, kGgufMaxStringBytes, &ignored));
  }
  return absl::OkStatus();
}

absl::Status GgufParser::IndexKeys() {
  const std::vector<GgufValue>& metadata = file_.metadata_;
  file_.by_key_ = SortedIndices(metadata, [](const GgufValue& a, const GgufValue& b) { return a.key < b.key; });
  for (size_t i = 1; i < file_.by_key_.size(); ++i) {
    const GgufValue& value = metadata[file_.by_key_[i]];
    if (value.key == metadata[file_.by_key_[i - 1]].key) return ValueError(value, "is a duplicate");
  }
  return absl::OkStatus();
}

absl::Status GgufParser::ReadAlignment() {
  const GgufValue* value = file_.Find("general.alignment");
  if (value == nullptr) return absl::OkStatus();
  if (value->is_array || value->type != GgufType::kUint32) return ValueError(*value, "is not a uint32");
  NIBBLE_ASSIGN_OR_RETURN(const uint64_t alignment, AsUnsigned(*value));
  if (alignment < kGgufMinAlignment || alignment > kGgufMaxAlignment || !std::has_single_bit(alignment)) {
    return ValueError(*value, std::to_string(alignment) + " is not a power of two from " +
                                  std::to_string(kGgufMinAlignment) + " to " + std::to_string(kGgufMaxAlignment));
  }
  file_.alignment_ = alignment;
  return absl::OkStatus();
}

absl::Status GgufParser::ReadTensorTable() {
  file_.tensor_table_offset_ = reader_.offset();
  file_.tensors_.resize(n_tensors_);
  for (GgufTensor& tensor : file_.tensors_) NIBBLE_RETURN_IF_ERROR(ReadTensor(&tensor));
  return absl::OkStatus();
}

// Leaves in data_offset what the file has: relative to the data section, not yet proven.
absl::Status GgufParser::ReadTensor(GgufTensor* tensor) {
  tensor->entry_offset = reader_.offset();
  NIBBLE_RETURN_IF_ERROR(reader_.ReadString("tensor name", kGgufMaxNameBytes, &tensor->name));
  NIBBLE_RETURN_IF_ERROR(CheckName("tensor name", tensor->entry_offset, tensor->name));
  const std::string of_tensor = " of tensor " + Quoted(tensor->name);
  NIBBLE_RETURN_IF_ERROR(ReadShape("shape" + of_tensor, tensor));
  NIBBLE_RETURN_IF_ERROR(ReadEncoding("type" + of_tensor, tensor));
  const uint64_t offset = reader_.offset();
  NIBBLE_RETURN_IF_ERROR(reader_.Read("offset" + of_tensor, &tensor->data_offset));
  if (tensor->data_offset % file_.alignment_ == 0) return absl::OkStatus();
  return FormatError(
      "offset" + of_tensor, offset,
      std::to_string(tensor->data_offset) + " is not a multiple of the alignment " + std::to_string(file_.alignment_));
}

absl::Status GgufParser::ReadShape(const std::string& field, GgufTensor* tensor) {
  const uint64_t offset = reader_.offset();
  uint32_t n_dims = 0;
  NIBBLE_RETURN_IF_ERROR(reader_.Read(field, &n_dims));
  if (n_dims < 1 || n_dims > kGgufMaxDims) {
    return FormatError(field, offset, std::to_string(n_dims) + " dimensions; 1 to 4 are allowed");
  }
  Checked elements = 1;
  tensor->shape.resize(n_dims);
  for (auto dim = tensor->shape.rbegin(); dim != tensor->shape.rend(); ++dim) {
    NIBBLE_RETURN_IF_ERROR(reader_.Read(field, &*dim));
    if (*dim < 1) return FormatError(field, offset, "a dimension is 0 or above 2^63 - 1");
    elements = elements * static_cast<uint64_t>(*dim);
  }
  if (elements.FitsIn(INT64_MAX)) return absl::OkStatus();
  return FormatError(field, offset, "has more than 2^63 - 1 elements");
}

absl::Status GgufParser::ReadEncoding(const std::string& field, GgufTensor* tensor) {
  const uint64_t offset = reader_.offset();
  uint32_t type = 0;
  NIBBLE_RETURN_IF_ERROR(reader_.Read(field, &type));
  tensor->traits = FindByGgufType(type);
  if (tensor->traits == nullptr) return FormatError(field, offset, std::to_string(type) + " is not a known encoding");
  if (tensor->shape.back() % tensor->traits->block_elements == 0) return absl::OkStatus();
  return FormatError(field, offset,
                     "a row of " + std::to_string(tensor->shape.back()) + " elements is not a whole number of " +
                         std::string(tensor->traits->name) + " blocks");
}

absl::Status GgufFile::IndexTensors() {
  by_name_ = SortedIndices(tensors_, [](const GgufTensor& a, const GgufTensor& b) { return a.name < b.name; });
  for (size_t i = 1; i < by_name_.size(); ++i) {
    const GgufTensor& tensor = tensors_[by_name_[i]];
    if (tensor.name != tensors_[by_name_[i - 1]].name) continue;
    return FormatError("tensor name", tensor.entry_offset, Quoted(tensor.name) + " is a duplicate");
  }
  return absl::OkStatus();
}

absl::Status GgufParser::PlaceTensors() {
  const Checked data_start = Checked(reader_.offset()).AlignedUp(file_.alignment_);
  for (GgufTensor& tensor : file_.tensors_) {
    if (!data_start.FitsIn(bytes_.size())) {
      return FormatError("tensor data", reader_.offset(), "the file ends before it starts");
    }
    NIBBLE_RETURN_IF_ERROR(PlaceTensor(data_start.value(), &tensor));
  }
  return absl::OkStatus();
}

absl::Status GgufParser::PlaceTensor(uint64_t data_start, GgufTensor* tensor) {
  Checked bytes = static_cast<uint64_t>(tensor->shape.back() / tensor->traits->block_elements);
  bytes = bytes * static_cast<uint64_t>(tensor->traits->block_bytes);
  for (size_t i = 0; i + 1 < tensor->shape.size(); ++i) bytes = bytes * static_cast<uint64_t>(tensor->shape[i]);
  const Checked start = Checked(data_start) + tensor->data_offset;
  if (!(start + bytes).FitsIn(bytes_.size())) {
    return FormatError("data of tensor " + Quoted(tensor->name), tensor->entry_offset,
                       "reaches past the end of the file");
  }
  tensor->data_offset = start.value();
  tensor->data = bytes_.subspan(start.value(), bytes.value());
  return absl::OkStatus();
}

absl::Status GgufParser::CheckOverlap() {
  const std::vector<GgufTensor>& tensors = file_.tensors_;
  const auto by_offset = [](const GgufTensor& a, const GgufTensor& b) { return a.data_offset < b.data_offset; };
  const std::vector<uint32_t> sorted = SortedIndices(tensors, by_offset);
  for (size_t i = 1; i < sorted.size(); ++i) {
    const GgufTensor& before = tensors[sorted[i - 1]];
    const GgufTensor& tensor = tensors[sorted[i]];
    if (before.data_offset + before.data.size() <= tensor.data_offset) continue;
    return FormatError("data of tensor " + Quoted(tensor.name), tensor.entry_offset,
                       "overlaps tensor " + Quoted(before.name));
  }
  return absl::OkStatus();
}

absl::StatusOr<GgufFile> GgufFile::Parse(absl::Span<const std::byte> bytes) { return GgufParser(bytes).Parse(); }

absl::StatusOr<GgufFile> GgufFile::WithTensors(std::vector<GgufTensor> tensors) const {
  GgufFile file = *this;
  file.tensors_ = std::move(tensors);
  NIBBLE_RETURN_IF_ERROR(file.IndexTensors());
  return file;
}

const GgufValue* GgufFile::Find(std::string_view key) const {
  const auto less = [this](uint32_t index, std::string_view wanted) { return metadata_[index].key < wanted; };
  const auto found = std::lower_bound(by_key_.begin(), by_key_.end(), key, less);
  return found != by_key_.end() && metadata_[*found].key == key ? &metadata_[*found] : nullptr;
}

const GgufTensor* GgufFile::FindTensor(std::string_view name) const {
  const auto less = [this](uint32_t index, std::string_view wanted) { return tensors_[index].name < wanted; };
  const auto found = std::lower_bound(by_name_.begin(), by_name_.end(), name, less);
  return found != by_name_.end() && tensors_[*found].name == name ? &tensors_[*found] : nullptr;
}

}  // namespace nibble::engine
