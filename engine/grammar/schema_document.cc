#include "engine/grammar/schema_document.h"

#include <charconv>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"
#include "engine/grammar/limits.h"

namespace nibble::engine::grammar {
namespace {

constexpr int64_t kMaxCount = 100'000;
constexpr size_t kMaxPathBytes = 200;

}  // namespace

const Json* Schema::Find(std::string_view word) const {
  const auto found = json->find(std::string(word));
  return found == json->end() ? nullptr : &*found;
}

Schema Schema::Below(std::string_view word, const Json& value) const {
  std::string below = absl::StrCat(path, ".", std::string(word));
  if (below.size() > kMaxPathBytes) {
    size_t begin = below.size() - kMaxPathBytes;
    while (begin < below.size() && (below[begin] & 0xC0) == 0x80) ++begin;  // not in the middle of a character
    below = absl::StrCat("…", below.substr(begin));
  }
  return {&value, std::move(below)};
}

absl::Status Schema::Error(std::string_view message) const {
  return absl::InvalidArgumentError(absl::StrCat(path, ": ", std::string(message)));
}

absl::StatusOr<int64_t> Schema::Count(std::string_view word, int64_t otherwise) const {
  const Json* value = Find(word);
  if (value == nullptr) return otherwise;
  const double count = value->is_number() ? value->get<double>() : -1.0;
  if (!(count >= 0.0 && count <= static_cast<double>(kMaxCount)) ||
      count != static_cast<double>(static_cast<int64_t>(count))) {
    return Error(absl::StrCat(std::string(word), " must be a whole number up to ", kMaxCount));
  }
  return static_cast<int64_t>(count);
}

absl::StatusOr<std::optional<double>> Schema::Number(std::string_view word) const {
  const Json* value = Find(word);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) return Error(absl::StrCat(std::string(word), " must be a number"));
  return value->get<double>();
}

absl::StatusOr<std::optional<std::string>> Schema::Text(std::string_view word) const {
  const Json* value = Find(word);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) return Error(absl::StrCat(std::string(word), " must be a string"));
  return value->get<std::string>();
}

absl::StatusOr<Json> ParseSchemaText(std::string_view source) {
  bool too_deep = false;
  // The parser itself does not recurse; values below the limit are dropped as they are read.
  const auto within_depth = [&too_deep](int depth, Json::parse_event_t, Json&) {
    too_deep = too_deep || depth > kMaxDepth;
    return !too_deep;
  };
  Json document = Json::parse(source, within_depth, /*allow_exceptions=*/false);
  if (too_deep) return absl::InvalidArgumentError(absl::StrCat("nests deeper than ", kMaxDepth));
  if (document.is_discarded()) return absl::InvalidArgumentError("is no JSON");
  return document;
}

absl::StatusOr<const Json*> Resolve(const Json& document, std::string_view reference) {
  if (reference.empty() || reference[0] != '#') {
    return absl::InvalidArgumentError("$ref must point within the document: '#/…'");
  }
  const Json* place = &document;
  if (reference.size() == 1) return place;
  if (reference[1] != '/') return absl::InvalidArgumentError("$ref must be a path: '#/…'");
  const absl::string_view path(reference.data() + 2, reference.size() - 2);
  for (const absl::string_view part : absl::StrSplit(path, '/')) {
    const std::string key = absl::StrReplaceAll(part, {{"~1", "/"}, {"~0", "~"}});
    if (place->is_object() && place->contains(key)) {
      place = &place->at(key);
      continue;
    }
    size_t index = 0;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), index);
    const bool is_index = error == std::errc() && end == key.data() + key.size();
    if (!place->is_array() || !is_index || index >= place->size()) {
      return absl::InvalidArgumentError("$ref points at nothing");
    }
    place = &(*place)[index];
  }
  return place;
}

}  // namespace nibble::engine::grammar
