// A compiled grammar over one vocabulary, and the reader of one answer.
//
// The mask over the next token is a function of the grammar and the tokens so far. Most of it belongs to single states
// of the automaton and is the same whatever called their rule: that part is found once and kept (StateMask). What is
// left for each token are the few tokens that reach beyond the end of a rule, such as `",` at the end of a string.
#ifndef NIBBLE_ENGINE_GRAMMAR_GRAMMAR_H_
#define NIBBLE_ENGINE_GRAMMAR_GRAMMAR_H_

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/grammar/automaton.h"
#include "engine/grammar/builder.h"
#include "engine/grammar/byte_lru.h"
#include "engine/grammar/simulation.h"
#include "engine/grammar/token_trie.h"

namespace nibble::engine::grammar {

// What a state allows, whoever called its rule: tokens that end within the rule, and where tokens leave it.
struct StateMask {
  std::vector<int32_t> ids;     // either these, where they are few,
  std::vector<uint64_t> words;  // or a bit for each id
  std::vector<int32_t> exits;   // nodes of the trie where the rule may end and a token goes on
  int64_t steps = 0;            // that finding it took
  int64_t path_steps = 0;       // that reading one of its tokens takes, at most
  int64_t exits_on_a_path = 0;  // exits below exits below exits: a token passes so many at most
  size_t bytes() const;
};

// A model's tokens and what is known of states over them. Shared by its grammars; any thread.
struct Vocabulary {
  Vocabulary(TokenTrie tokens, size_t mask_bytes) : trie(std::move(tokens)), masks(mask_bytes) {}

  const TokenTrie trie;
  ByteLru<std::pair<uint64_t, int32_t>, StateMask> masks;  // by grammar and state
};

// Immutable; any thread.
class Grammar {
 public:
  // Takes milliseconds, bounded by limits.h. INVALID_ARGUMENT as Automaton::Compile, and where a state's mask takes
  // more than kMaxStateMaskSteps.
  static absl::StatusOr<std::shared_ptr<const Grammar>> Compile(const Builder& builder, RuleId root,
                                                                std::shared_ptr<Vocabulary> vocabulary);

  const Automaton& automaton() const { return automaton_; }
  const TokenTrie& trie() const { return vocabulary_->trie; }
  // From the cache, or else worked out with `simulation`, whose threads stay as they are. nullptr: it takes too long.
  std::shared_ptr<const StateMask> MaskOf(int32_t state, Simulation* simulation) const;
  size_t bytes() const { return sizeof(*this) + automaton_.bytes() + alike_.size() * sizeof(int32_t); }

 private:
  Grammar(Automaton automaton, std::shared_ptr<Vocabulary> vocabulary);
  // The state whose mask stands for that of `state`.
  int32_t Representative(int32_t state) const { return alike_[static_cast<size_t>(state)]; }
  // Works out masks ahead, as far as kWarmUpSteps go.
  absl::Status WarmUp() const;

  const uint64_t id_;  // no two grammars of a process have the same
  const Automaton automaton_;
  const std::shared_ptr<Vocabulary> vocabulary_;
  const std::vector<int32_t> alike_;  // by state
};

// Reads one answer, token by token. One thread at a time.
class Matcher {
 public:
  explicit Matcher(std::shared_ptr<const Grammar> grammar);

  // False: the grammar does not allow the token here, or reading it takes more steps than limits.h allows, which no
  // token of a mask does but where very many rules end behind it. The matcher is of no more use.
  bool Accept(int32_t token);
  // Whether the answer may end here. Whether it may go on. One of the two is always true.
  bool CanEnd() const { return simulation_.AtBottomEnd(with_returns_); }
  bool CanGoOn() const;
  // Sets the bits of the ids that may come next, [(vocab_size + 63) / 64]: tokens that keep the answer within the
  // grammar, and `terminators` where it may end, which never count as text. False, a function of the grammar and the
  // tokens as well: it takes, or once took, more steps than limits.h allows.
  bool FillMask(absl::Span<const int32_t> terminators, absl::Span<uint64_t> mask);

 private:
  struct StepsLeft {
    int64_t states, mask, read;
  };
  bool AddExits(const Thread& thread, const StateMask& state_mask, absl::Span<uint64_t> mask, StepsLeft* left);

  const std::shared_ptr<const Grammar> grammar_;
  Simulation simulation_;
  std::vector<Thread> threads_, with_returns_;
};

}  // namespace nibble::engine::grammar

#endif  // NIBBLE_ENGINE_GRAMMAR_GRAMMAR_H_
