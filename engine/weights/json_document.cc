#include "engine/weights/json_document.h"

#include <utility>
#include <vector>

#include "absl/strings/str_format.h"
#include "engine/weights/byte_reader.h"
#include "engine/weights/tracked_iterator.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

using Json = nlohmann::json;

// The parser's events, which build the tree. Each returns false to stop the parser, status_ saying why.
class TreeEvents {
 public:
  TreeEvents(std::string_view text, const std::string& file) : file_(file), begin_(text.data()), seen_(text.data()) {}

  const char** seen() { return &seen_; }
  absl::StatusOr<Json> Take() && {
    if (!status_.ok()) return status_;
    return std::move(root_);
  }

  bool null() { return Add(nullptr) != nullptr; }
  bool boolean(bool value) { return Add(value) != nullptr; }
  bool number_integer(Json::number_integer_t value) { return Add(value) != nullptr; }
  bool number_unsigned(Json::number_unsigned_t value) { return Add(value) != nullptr; }
  bool number_float(Json::number_float_t value, const Json::string_t&) { return Add(value) != nullptr; }
  bool string(Json::string_t& value) { return Add(std::move(value)) != nullptr; }
  bool binary(Json::binary_t&) { return Refuse("holds binary"); }

  bool start_object(size_t) { return Open(Json::object()); }
  bool start_array(size_t) { return Open(Json::array()); }
  bool end_object() { return Close(); }
  bool end_array() { return Close(); }
  bool key(Json::string_t& text) {
    const auto [entry, is_new] = open_.back()->get_ref<Json::object_t&>().try_emplace(text);
    member_ = &entry->second;
    return is_new || Refuse("key " + Quoted(text) + " is a duplicate");
  }

  // Its message is not passed on: it quotes the file.
  bool parse_error(size_t, const std::string&, const Json::exception& error) {
    constexpr int kNumberOverflow = 406;
    return Refuse(error.id == kNumberOverflow ? "holds a number that is out of range"
                                              : "is not JSON in UTF-8 from here on");
  }

 private:
  bool Refuse(std::string_view what) {
    status_ = FormatError(file_, static_cast<uint64_t>(seen_ - begin_), what);
    return false;
  }

  // Where the value lies in the tree; nullptr, status_ saying why, if there are too many.
  Json* Add(Json value) {
    if (++values_ > kJsonMaxValues) {
      Refuse("has more than " + std::to_string(kJsonMaxValues) + " values");
      return nullptr;
    }
    if (open_.empty()) return &(root_ = std::move(value));
    if (open_.back()->is_object()) return &(*member_ = std::move(value));
    return &open_.back()->get_ref<Json::array_t&>().emplace_back(std::move(value));
  }

  bool Open(Json value) {
    if (open_.size() == kJsonMaxDepth) return Refuse("nests deeper than " + std::to_string(kJsonMaxDepth));
    open_.push_back(Add(std::move(value)));
    return open_.back() != nullptr;
  }

  bool Close() {
    open_.pop_back();
    return true;
  }

  const std::string& file_;
  const char* const begin_;
  const char* seen_;  // past the last byte that the parser took
  absl::Status status_;
  Json root_;
  std::vector<Json*> open_;  // outermost first; an array grows only at the innermost
  Json* member_ = nullptr;   // of the innermost object
  size_t values_ = 0;
};

std::string Shown(double number) { return absl::StrFormat("%g", number); }

}  // namespace

absl::StatusOr<JsonDocument> JsonDocument::Parse(std::string_view text, std::string file) {
  // The JSON parser would take a zero byte for the end of its input.
  const size_t zero = text.find('\0');
  if (zero != std::string_view::npos) return FormatError(file, zero, "holds a zero byte");
  TreeEvents events(text, file);
  Json::sax_parse(TrackedIterator(text.data(), events.seen()),
                  TrackedIterator(text.data() + text.size(), events.seen()), &events);
  NIBBLE_ASSIGN_OR_RETURN(Json root, std::move(events).Take());
  if (!root.is_object()) return FormatError(file, 0, "is no object");
  return JsonDocument(std::move(root), std::move(file));
}

JsonValue JsonValue::operator[](std::string_view key) const {
  // The path of a document is its file's name, and has no dot after a colon.
  const bool is_root = path_.find(": ") == std::string::npos;
  std::string path = path_ + (is_root ? ": " : ".") + std::string(key);
  if (!present() || !value_->is_object()) return {nullptr, std::move(path)};
  const auto& members = value_->get_ref<const Json::object_t&>();
  const auto found = members.find(key);
  return {found == members.end() ? nullptr : &found->second, std::move(path)};
}

JsonValue JsonValue::At(size_t index) const { return {&(*value_)[index], path_ + "[" + std::to_string(index) + "]"}; }

absl::Status JsonValue::Error(std::string_view what) const {
  return absl::FailedPreconditionError(path_ + ": " + std::string(what));
}

absl::Status JsonValue::Require() const { return present() ? absl::OkStatus() : Error("is missing"); }

absl::Status JsonValue::CheckObject() const {
  return !present() || value_->is_object() ? absl::OkStatus() : Error("is not an object");
}

absl::Status JsonValue::CheckArray() const {
  return !present() || value_->is_array() ? absl::OkStatus() : Error("is not an array");
}

absl::Status JsonValue::ReadInt(int64_t min, int64_t max, int64_t* out) const {
  if (!present()) return absl::OkStatus();
  if (!value_->is_number_integer()) return Error("is not a whole number");
  const bool huge = value_->is_number_unsigned() && value_->get<uint64_t>() > INT64_MAX;
  const int64_t number = huge ? INT64_MAX : value_->get<int64_t>();
  if (huge || number < min || number > max) {
    return Error(value_->dump() + " is not within " + std::to_string(min) + " to " + std::to_string(max));
  }
  *out = number;
  return absl::OkStatus();
}

absl::Status JsonValue::ReadNumber(double min, double max, double* out) const {
  if (!present()) return absl::OkStatus();
  if (!value_->is_number()) return Error("is not a number");
  const double number = value_->get<double>();
  if (!(number >= min && number <= max)) {
    return Error(Shown(number) + " is not within " + Shown(min) + " to " + Shown(max));
  }
  *out = number;
  return absl::OkStatus();
}

absl::Status JsonValue::ReadFloat(double min, double max, float* out) const {
  double number = *out;
  NIBBLE_RETURN_IF_ERROR(ReadNumber(min, max, &number));
  *out = static_cast<float>(number);
  return absl::OkStatus();
}

absl::Status JsonValue::ReadBool(bool* out) const {
  if (!present()) return absl::OkStatus();
  if (!value_->is_boolean()) return Error("is not true or false");
  *out = value_->get<bool>();
  return absl::OkStatus();
}

absl::Status JsonValue::ReadText(size_t max_bytes, std::string* out) const {
  if (!present()) return absl::OkStatus();
  if (!value_->is_string()) return Error("is not a string");
  const auto& text = value_->get_ref<const std::string&>();
  if (text.size() > max_bytes) return Error("is longer than " + std::to_string(max_bytes) + " bytes");
  *out = text;
  return absl::OkStatus();
}

}  // namespace nibble::engine
