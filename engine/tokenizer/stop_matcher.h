// Finds stop strings in streamed text and keeps back what may be the beginning of one.
//
// The match is the one that ends first; of several that end together, the longest. So it does not depend on how the
// text is cut into pieces. Cost: O(number of stop strings) per byte (Knuth, Morris and Pratt 1977). One thread per
// stream.
#ifndef NIBBLE_ENGINE_TOKENIZER_STOP_MATCHER_H_
#define NIBBLE_ENGINE_TOKENIZER_STOP_MATCHER_H_

#include <string>
#include <string_view>
#include <vector>

namespace nibble::engine {

class StopMatcher {
 public:
  struct Result {
    std::string text;  // what may be shown now; never part of a match
    int matched = -1;  // index of the stop string found, or -1
  };

  // Empty stop strings never match.
  explicit StopMatcher(const std::vector<std::string>& stops);

  // After a match nothing more is shown: later pieces give empty results without a match.
  Result Push(std::string_view piece);
  // The text kept back, when the stream ends without a match.
  std::string Flush();

 private:
  struct Stop {
    std::string text;
    std::vector<size_t> border;  // [n]: longest proper prefix of text that ends its first n bytes
    size_t progress = 0;         // longest prefix of text that ends the stream
  };

  void Advance(Stop& stop, char byte) const;
  // Index of the longest stop string that the stream ends with, or -1.
  int Matched() const;

  std::vector<Stop> stops_;
  std::string held_;
  bool done_ = false;
};

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_TOKENIZER_STOP_MATCHER_H_
