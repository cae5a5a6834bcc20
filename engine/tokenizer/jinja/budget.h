// What one rendering may cost. Templates come from model files: a hostile one must end in an error, never in a hang,
// an exhausted memory or an overflown stack.
#ifndef NIBBLE_ENGINE_TOKENIZER_JINJA_BUDGET_H_
#define NIBBLE_ENGINE_TOKENIZER_JINJA_BUDGET_H_

#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"

namespace nibble::engine::jinja {

inline constexpr int64_t kMaxSteps = 5'000'000;             // expressions and statements evaluated
inline constexpr size_t kMaxWorkBytes = size_t{256} << 20;  // made by all operations together
inline constexpr int kMaxValueDepth = 64;                   // of lists in lists
inline constexpr size_t kMaxDictItems = 64;
inline constexpr int kMaxEvaluationDepth = 400;  // of evaluations in evaluations, macros included

class Budget {
 public:
  absl::Status Step() {
    return --steps_ >= 0 ? absl::OkStatus() : absl::ResourceExhaustedError("the template takes too many steps");
  }
  // To be called before the work is done.
  absl::Status Charge(size_t bytes) {
    if (bytes > work_bytes_) return absl::ResourceExhaustedError("the template makes too much text");
    work_bytes_ -= bytes;
    return absl::OkStatus();
  }
  // Looking for `part_bytes` in `text_bytes` bytes, at worst comparing them everywhere.
  absl::Status ChargeSearch(size_t text_bytes, size_t part_bytes) {
    constexpr size_t kComparedAtOnce = 64;
    const size_t compares = part_bytes / kComparedAtOnce + 1;
    if (text_bytes > work_bytes_ / compares) return Charge(work_bytes_ + 1);
    return Charge(text_bytes * compares);
  }

 private:
  int64_t steps_ = kMaxSteps;
  size_t work_bytes_ = kMaxWorkBytes;
};

}  // namespace nibble::engine::jinja

#endif  // NIBBLE_ENGINE_TOKENIZER_JINJA_BUDGET_H_
