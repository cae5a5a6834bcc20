#include "engine/tokenizer/jinja/text.h"

#include <algorithm>
#include <utility>

#include "kvcache/base/check.h"

namespace nibble::engine::jinja {

Text::Text(std::string bytes, bool trusted) : bytes_(std::move(bytes)) {
  if (!bytes_.empty()) runs_.push_back({bytes_.size(), trusted});
}

void Text::Append(std::string_view bytes, bool trusted) {
  if (bytes.empty()) return;
  bytes_ += bytes;
  if (!runs_.empty() && runs_.back().trusted == trusted) {
    runs_.back().end = bytes_.size();
  } else {
    runs_.push_back({bytes_.size(), trusted});
  }
}

void Text::Append(const Text& text) {
  size_t begin = 0;
  for (const Run& run : text.runs_) {
    Append(std::string_view(text.bytes_).substr(begin, run.end - begin), run.trusted);
    begin = run.end;
  }
}

Text Text::Slice(size_t begin, size_t end) const {
  NIBBLE_CHECK(begin <= end && end <= size());
  Text result;
  size_t run_begin = 0;
  for (const Run& run : runs_) {
    const size_t from = std::max(begin, run_begin);
    const size_t to = std::min(end, run.end);
    if (from < to) result.Append(std::string_view(bytes_).substr(from, to - from), run.trusted);
    run_begin = run.end;
  }
  return result;
}

}  // namespace nibble::engine::jinja
