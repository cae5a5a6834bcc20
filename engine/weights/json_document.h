// JSON files of a model folder (config.json, tokenizer.json, …): text that is not trusted, to a tree whose values are
// read by name. FAILED_PRECONDITION names the file and the field, or the byte where the text stops being JSON.
#ifndef NIBBLE_ENGINE_WEIGHTS_JSON_DOCUMENT_H_
#define NIBBLE_ENGINE_WEIGHTS_JSON_DOCUMENT_H_

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace nibble::engine {

// A document at a limit is accepted, one past it is refused. A value takes at most about 100 bytes besides its text.
inline constexpr size_t kJsonMaxDepth = 32;
inline constexpr size_t kJsonMaxValues = 1 << 22;  // Gemma 3's tokenizer.json has 1.8 M

// One value of a document, or the place of one that is absent; null counts as absent. A view: the document must live.
class JsonValue {
 public:
  JsonValue(const nlohmann::json* value, std::string path) : value_(value), path_(std::move(path)) {}

  bool present() const { return value_ != nullptr && !value_->is_null(); }
  const std::string& path() const { return path_; }
  // REQUIRES: present().
  const nlohmann::json& json() const { return *value_; }

  // A member. Absent where this is absent or no object: see CheckObject.
  JsonValue operator[](std::string_view key) const;
  // An element. REQUIRES: CheckArray() is OK, the value is present, and it has that many.
  JsonValue At(size_t index) const;
  size_t size() const { return present() ? value_->size() : 0; }

  // "<path>: <what>".
  absl::Status Error(std::string_view what) const;
  absl::Status Require() const;      // fails where absent
  absl::Status CheckObject() const;  // fails where present and no object
  absl::Status CheckArray() const;

  // Each leaves `*out` as it is where the value is absent, and fails where it is of another type or out of range.
  absl::Status ReadInt(int64_t min, int64_t max, int64_t* out) const;
  absl::Status ReadNumber(double min, double max, double* out) const;
  absl::Status ReadFloat(double min, double max, float* out) const;  // rounded to float
  absl::Status ReadBool(bool* out) const;
  absl::Status ReadText(size_t max_bytes, std::string* out) const;

 private:
  const nlohmann::json* value_;
  std::string path_;
};

class JsonDocument {
 public:
  // `file` is its name for errors. Refused besides what is not JSON in UTF-8: duplicate keys, numbers out of range,
  // zero bytes, what is above the limits, and a top level that is no object.
  static absl::StatusOr<JsonDocument> Parse(std::string_view text, std::string file);

  JsonValue root() const { return {&root_, file_}; }
  JsonValue operator[](std::string_view key) const { return root()[key]; }

 private:
  JsonDocument(nlohmann::json root, std::string file) : root_(std::move(root)), file_(std::move(file)) {}
  nlohmann::json root_;
  std::string file_;
};

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_WEIGHTS_JSON_DOCUMENT_H_
