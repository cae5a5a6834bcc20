// A string that remembers which of its bytes the template's author wrote and which came from a client. Every operation
// of the interpreter on strings keeps the marks, so that a client's text never becomes a control token.
#ifndef NIBBLE_ENGINE_TOKENIZER_JINJA_TEXT_H_
#define NIBBLE_ENGINE_TOKENIZER_JINJA_TEXT_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace nibble::engine::jinja {

class Text {
 public:
  // A stretch of one mark; it begins where the one before it ends.
  struct Run {
    size_t end = 0;
    bool trusted = false;
  };

  Text() = default;
  Text(std::string bytes, bool trusted);

  const std::string& bytes() const { return bytes_; }
  size_t size() const { return bytes_.size(); }
  bool empty() const { return bytes_.empty(); }
  // Ascending; neighbours differ in their mark; the last ends at size().
  const std::vector<Run>& runs() const { return runs_; }

  void Append(std::string_view bytes, bool trusted);
  void Append(const Text& text);
  // REQUIRES: begin <= end <= size().
  Text Slice(size_t begin, size_t end) const;
  // A copy with each byte replaced by map(byte), marks unchanged.
  template <typename Map>
  Text MapBytes(Map map) const {
    Text result = *this;
    for (char& byte : result.bytes_) byte = map(byte);
    return result;
  }

 private:
  std::string bytes_;
  std::vector<Run> runs_;
};

}  // namespace nibble::engine::jinja

#endif  // NIBBLE_ENGINE_TOKENIZER_JINJA_TEXT_H_
