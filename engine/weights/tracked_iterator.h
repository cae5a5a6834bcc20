// Walks over text for the JSON parser and tells how far it has come: its events carry no position.
#ifndef NIBBLE_ENGINE_WEIGHTS_TRACKED_ITERATOR_H_
#define NIBBLE_ENGINE_WEIGHTS_TRACKED_ITERATOR_H_

#include <cstddef>
#include <iterator>

namespace nibble::engine {

class TrackedIterator {
 public:
  using iterator_category = std::forward_iterator_tag;
  using value_type = char;
  using difference_type = std::ptrdiff_t;
  using pointer = const char*;
  using reference = const char&;

  // `*seen` is kept past the last byte taken.
  TrackedIterator(const char* at, const char** seen) : at_(at), seen_(seen) {}
  reference operator*() const { return *at_; }
  TrackedIterator& operator++() {
    *seen_ = ++at_;
    return *this;
  }
  TrackedIterator operator++(int) {
    const TrackedIterator before = *this;
    ++*this;
    return before;
  }
  friend bool operator!=(const TrackedIterator& a, const TrackedIterator& b) { return a.at_ != b.at_; }

 private:
  const char* at_;
  const char** seen_;
};

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_WEIGHTS_TRACKED_ITERATOR_H_
