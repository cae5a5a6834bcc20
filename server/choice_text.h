// The text of one choice, grown token by token: whole UTF-8 characters only, and nothing of a stop string. Used by one
// thread at a time.
#ifndef NIBBLE_SERVER_CHOICE_TEXT_H_
#define NIBBLE_SERVER_CHOICE_TEXT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "engine/tokenizer/incremental_decoder.h"
#include "engine/tokenizer/stop_matcher.h"

namespace nibble::server {

class ChoiceText {
 public:
  // `tokenizer` must outlive it.
  ChoiceText(const engine::Tokenizer& tokenizer, const std::vector<std::string>& stop_strings)
      : decoder_(tokenizer), matcher_(stop_strings) {}

  // What may be shown now, and the index of the stop string that ended the text, or -1.
  engine::StopMatcher::Result Push(int32_t token) { return matcher_.Push(decoder_.Push(token)); }

  // What was held back and is no stop string. Call once, at the end; nothing where a stop string matched.
  std::string Flush() {
    engine::StopMatcher::Result rest = matcher_.Push(decoder_.Flush());
    return rest.text + matcher_.Flush();
  }

 private:
  engine::IncrementalDecoder decoder_;
  engine::StopMatcher matcher_;
};

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_CHOICE_TEXT_H_
