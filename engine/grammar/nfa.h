// A grammar's rules as one nondeterministic automaton with calls, and what can be read off it: which states lead to an
// end, which rules match the empty text, and left recursion. A step of compiling (automaton.h).
#ifndef NIBBLE_ENGINE_GRAMMAR_NFA_H_
#define NIBBLE_ENGINE_GRAMMAR_NFA_H_

#include <bitset>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/grammar/builder.h"

namespace nibble::engine::grammar {

struct Nfa {
  enum class Label : uint8_t { kNothing, kBytes, kCall };
  struct Edge {
    int32_t from, to;
    Label label;
    uint8_t low, high;  // kBytes
    RuleId rule;        // kCall
  };
  struct RuleStates {
    int32_t start = -1, accept = -1;  // -1: nothing calls it
  };

  int32_t num_states = 0;
  std::vector<Edge> edges;          // after Trim: ascending by `from`
  std::vector<int32_t> first_edge;  // by state, and the end; set by Trim
  std::vector<RuleStates> rules;
  std::vector<bool> nullable;  // by rule; set by Trim

  bool IsCalled(size_t rule) const { return rules[rule].start >= 0; }
  absl::Span<const Edge> EdgesOf(int32_t state) const {
    const size_t first = static_cast<size_t>(first_edge[static_cast<size_t>(state)]);
    return absl::MakeConstSpan(edges).subspan(first, first_edge[static_cast<size_t>(state) + 1] - first);
  }
};

// `root` and what it calls: one copy of every expression for each of its uses. Small rules that call no recursive one
// are copied into their callers. INVALID_ARGUMENT beyond kMaxNfaStates.
absl::StatusOr<Nfa> MakeNfa(const Builder& builder, RuleId root);

// Takes out what can lead to no end: bytes outside `spellable`, calls of rules that match nothing, dead ends.
// INVALID_ARGUMENT where nothing is left of `root`, and for a rule that can call itself before it has read a byte.
absl::Status Trim(const Builder& builder, const std::bitset<256>& spellable, RuleId root, Nfa* nfa);

}  // namespace nibble::engine::grammar

#endif  // NIBBLE_ENGINE_GRAMMAR_NFA_H_
