// The one checked integer: every size, count and offset computed from a file's numbers goes through it. An overflow
// sticks, so a whole expression is written plainly and asked once at its end:
//
//   const Checked end = Checked(offset) + Checked(count) * size;
//   if (!end.FitsIn(file_bytes)) return error;
#ifndef NIBBLE_ENGINE_WEIGHTS_CHECKED_H_
#define NIBBLE_ENGINE_WEIGHTS_CHECKED_H_

#include <cstdint>

#include "kvcache/base/check.h"

namespace nibble::engine {

class Checked {
 public:
  constexpr Checked(uint64_t value) : value_(value) {}  // NOLINT: implicit, so that numbers mix in

  friend constexpr Checked operator+(Checked a, Checked b) {
    Checked sum(0);
    sum.overflowed_ = __builtin_add_overflow(a.value_, b.value_, &sum.value_) || a.overflowed_ || b.overflowed_;
    return sum;
  }
  friend constexpr Checked operator*(Checked a, Checked b) {
    Checked product(0);
    product.overflowed_ = __builtin_mul_overflow(a.value_, b.value_, &product.value_) || a.overflowed_ || b.overflowed_;
    return product;
  }
  // To the next multiple of `alignment`. REQUIRES: alignment is a power of two.
  constexpr Checked AlignedUp(uint64_t alignment) const {
    Checked aligned = *this + (alignment - 1);
    aligned.value_ &= ~(alignment - 1);
    return aligned;
  }

  // False also after an overflow anywhere in the expression.
  constexpr bool FitsIn(uint64_t limit) const { return !overflowed_ && value_ <= limit; }
  constexpr bool ok() const { return !overflowed_; }
  // REQUIRES: ok().
  constexpr uint64_t value() const {
    NIBBLE_CHECK(!overflowed_);
    return value_;
  }

 private:
  uint64_t value_;
  bool overflowed_ = false;
};

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_WEIGHTS_CHECKED_H_
