#include "engine/weights/safetensors_header.h"

#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "engine/weights/byte_reader.h"
#include "engine/weights/tracked_iterator.h"

namespace nibble::engine {
namespace {

constexpr char kMetadataKey[] = "__metadata__";

// The parser's events. Each returns false to stop it, status_ saying why. Only what may stand where the parser is gets
// through, so the depth is that of the format.
class HeaderEvents {
 public:
  using number_integer_t = nlohmann::json::number_integer_t;
  using number_unsigned_t = nlohmann::json::number_unsigned_t;
  using number_float_t = nlohmann::json::number_float_t;
  using string_t = nlohmann::json::string_t;
  using binary_t = nlohmann::json::binary_t;

  HeaderEvents(std::string_view json, uint64_t base) : begin_(json.data()), seen_(json.data()), base_(base) {}

  const char** seen() { return &seen_; }
  absl::StatusOr<SafetensorsHeader> Take() && {
    if (!status_.ok()) return status_;
    return std::move(header_);
  }

  bool key(string_t& text) {
    if (place_ == Place::kTensor) return StartField(text);
    if (text.empty() || text.size() > kSafetensorsMaxNameBytes) {
      return Refuse("name " + Quoted(text), "is not 1 to " + std::to_string(kSafetensorsMaxNameBytes) + " bytes long");
    }
    key_ = text;
    return names_[place_ == Place::kMetadata].insert(text).second || Refuse(Subject(), "is a duplicate");
  }

  bool start_object(size_t) {
    if (place_ == Place::kStart) return Enter(Place::kTop);
    if (place_ == Place::kTop && key_ == kMetadataKey) return Enter(Place::kMetadata);
    if (place_ == Place::kTop) return StartTensor();
    return Refuse(Subject(), "is an object");
  }

  bool end_object() {
    if (place_ == Place::kTensor && !HasAllFields()) return false;
    return Enter(Place::kTop);
  }

  bool start_array(size_t) {
    if (place_ == Place::kTensor && field_ == kShape) return Enter(Place::kDims);
    if (place_ == Place::kTensor && field_ == kOffsets) return Enter(Place::kEnds);
    return Refuse(Subject(), "is an array");
  }

  bool end_array() {
    if (place_ == Place::kEnds && offsets_ != 2) return Refuse(Subject(), "is not two numbers");
    return Enter(Place::kTensor);
  }

  bool string(string_t& text) {
    if (place_ == Place::kMetadata) return AddMetadata(text);
    if (place_ == Place::kTensor && field_ == kType) return SetType(text);
    return Refuse(Subject(), "is a string");
  }

  bool number_unsigned(number_unsigned_t value) {
    if (place_ == Place::kDims) return AddDim(value);
    if (place_ == Place::kEnds) return AddOffset(value);
    return Refuse(Subject(), "is a number");
  }

  bool number_integer(number_integer_t) { return Refuse(Subject(), "is a negative number"); }
  bool number_float(number_float_t, const string_t&) { return Refuse(Subject(), "is not a whole number below 2^64"); }
  bool null() { return Refuse(Subject(), "is null"); }
  bool boolean(bool) { return Refuse(Subject(), "is a bool"); }
  bool binary(binary_t&) { return Refuse(Subject(), "is binary"); }

  // Its message is not passed on: it quotes the file.
  bool parse_error(size_t, const std::string&, const nlohmann::json::exception& error) {
    constexpr int kNumberOverflow = 406;
    return Refuse("header", error.id == kNumberOverflow ? "holds a number that is out of range"
                                                        : "is not JSON in UTF-8 from here on");
  }

 private:
  enum class Place { kStart, kTop, kMetadata, kTensor, kDims, kEnds };
  enum Field : unsigned { kNone = 0, kType = 1, kShape = 2, kOffsets = 4, kAllFields = 7 };

  bool Enter(Place place) {
    place_ = place;
    return true;
  }

  // What the parser is at, for errors.
  std::string Subject() const {
    if (place_ == Place::kMetadata) return "metadata " + Quoted(key_);
    if (place_ == Place::kTop && key_.empty()) return "header";
    const std::string tensor = "tensor " + Quoted(key_);
    switch (field_) {
      case kType:
        return "dtype of " + tensor;
      case kShape:
        return "shape of " + tensor;
      case kOffsets:
        return "data_offsets of " + tensor;
      default:
        return tensor;
    }
  }

  bool Refuse(const std::string& subject, const std::string& what) {
    status_ = FormatError(subject, base_ + static_cast<uint64_t>(seen_ - begin_), what);
    return false;
  }

  bool StartTensor() {
    if (header_.entries.size() == kSafetensorsMaxTensors) {
      return Refuse(Subject(), "is above the limit of " + std::to_string(kSafetensorsMaxTensors) + " tensors");
    }
    header_.entries.emplace_back();
    tensor().name = key_;
    tensor().header_offset = base_ + static_cast<uint64_t>(seen_ - begin_);
    field_ = kNone;
    fields_ = 0;
    offsets_ = 0;
    return Enter(Place::kTensor);
  }

  bool StartField(const std::string& name) {
    field_ = name == "dtype" ? kType : name == "shape" ? kShape : name == "data_offsets" ? kOffsets : kNone;
    if (field_ == kNone) return Refuse(Subject(), "has a field " + Quoted(name) + " that the format does not have");
    if ((fields_ & field_) != 0) return Refuse(Subject(), "is a duplicate");
    fields_ |= field_;
    return true;
  }

  bool HasAllFields() {
    field_ = kNone;
    if (fields_ == kAllFields) return true;
    const char* const missing = (fields_ & kType) == 0 ? "dtype" : (fields_ & kShape) == 0 ? "shape" : "data_offsets";
    return Refuse(Subject(), std::string("has no ") + missing);
  }

  bool AddMetadata(std::string& text) {
    if (header_.metadata.size() == kSafetensorsMaxMetadata) {
      return Refuse(Subject(), "is above the limit of " + std::to_string(kSafetensorsMaxMetadata) + " entries");
    }
    header_.metadata.emplace(key_, std::move(text));
    return true;
  }

  bool SetType(const std::string& name) {
    const SafetensorsTypeTraits* const traits = FindSafetensorsType(name);
    if (traits == nullptr) return Refuse(Subject(), Quoted(name) + " is not a known type");
    tensor().type = traits->type;
    return true;
  }

  bool AddDim(uint64_t value) {
    if (tensor().shape.size() == kSafetensorsMaxDims) {
      return Refuse(Subject(), "has more than " + std::to_string(kSafetensorsMaxDims) + " dimensions");
    }
    if (value > INT64_MAX) return Refuse(Subject(), "has a dimension above 2^63 - 1");
    tensor().shape.push_back(static_cast<int64_t>(value));
    return true;
  }

  bool AddOffset(uint64_t value) {
    if (offsets_ == 2) return Refuse(Subject(), "is more than two numbers");
    SafetensorsEntry& entry = header_.entries.back();
    (offsets_++ == 0 ? entry.begin : entry.end) = value;
    return true;
  }

  SafetensorsTensor& tensor() { return header_.entries.back().tensor; }

  const char* const begin_;
  const char* seen_;  // past the last byte that the parser took
  const uint64_t base_;
  absl::Status status_;
  SafetensorsHeader header_;
  absl::flat_hash_set<std::string> names_[2];  // of the top level, of the metadata
  Place place_ = Place::kStart;
  std::string key_;       // of the top level or the metadata
  Field field_ = kNone;   // of a tensor
  unsigned fields_ = 0;   // of a tensor, seen
  unsigned offsets_ = 0;  // of a tensor, seen
};

}  // namespace

absl::StatusOr<SafetensorsHeader> ParseSafetensorsHeader(std::string_view json, uint64_t base) {
  // The JSON parser would take a zero byte for the end of its input.
  const size_t zero = json.find('\0');
  if (zero != std::string_view::npos) return FormatError("header", base + zero, "holds a zero byte");
  HeaderEvents events(json, base);
  nlohmann::json::sax_parse(TrackedIterator(json.data(), events.seen()),
                            TrackedIterator(json.data() + json.size(), events.seen()), &events);
  return std::move(events).Take();
}

}  // namespace nibble::engine
