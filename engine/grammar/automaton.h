// A compiled grammar: one deterministic automaton over bytes for each rule, joined by calls. From every state a text
// that the model can spell leads to an end, and no rule calls itself before it has read a byte.
//
// Immutable; any thread.
#ifndef NIBBLE_ENGINE_GRAMMAR_AUTOMATON_H_
#define NIBBLE_ENGINE_GRAMMAR_AUTOMATON_H_

#include <array>
#include <bitset>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/grammar/builder.h"

namespace nibble::engine::grammar {

class Automaton {
 public:
  struct Call {
    RuleId rule;
    int32_t start;    // of the rule
    int32_t back_to;  // where the caller goes on after it
  };

  // INVALID_ARGUMENT, saying what is wrong with the grammar: beyond the bounds of limits.h, left-recursive, or without
  // any text that consists of `spellable` bytes.
  static absl::StatusOr<Automaton> Compile(const Builder& builder, RuleId root, const std::bitset<256>& spellable);

  int32_t start() const { return start_; }
  int32_t num_states() const { return static_cast<int32_t>(accepts_.size()); }
  int32_t num_rules() const { return num_rules_; }
  // Bytes that no state tells apart are one class.
  int num_classes() const { return num_classes_; }
  int ClassOf(uint8_t byte) const { return classes_[byte]; }
  // -1: there is none.
  int32_t Next(int32_t state, int byte_class) const {
    return next_[static_cast<size_t>(state) * static_cast<size_t>(num_classes_) + static_cast<size_t>(byte_class)];
  }
  // Whether the state's rule may end here.
  bool Accepts(int32_t state) const { return accepts_[static_cast<size_t>(state)] != 0; }
  absl::Span<const Call> Calls(int32_t state) const {
    const size_t first = first_call_[static_cast<size_t>(state)];
    return absl::MakeConstSpan(calls_).subspan(first, first_call_[static_cast<size_t>(state) + 1] - first);
  }
  int64_t num_calls() const { return static_cast<int64_t>(calls_.size()); }  // of all states
  // Whether the state's rule can do nothing but end here: who would come back to it may skip it.
  bool OnlyEnds(int32_t state) const { return only_ends_[static_cast<size_t>(state)] != 0; }
  size_t bytes() const;

 private:
  friend class Determinizer;
  Automaton() = default;

  int32_t start_ = 0;
  int32_t num_rules_ = 0;
  int num_classes_ = 0;
  std::array<uint8_t, 256> classes_ = {};
  std::vector<int32_t> next_;  // [states, classes]
  std::vector<uint8_t> accepts_, only_ends_;
  std::vector<Call> calls_;
  std::vector<uint32_t> first_call_;  // by state, and the end
};

}  // namespace nibble::engine::grammar

#endif  // NIBBLE_ENGINE_GRAMMAR_AUTOMATON_H_
