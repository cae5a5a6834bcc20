// A grammar's automaton while it reads: the set of its threads, each a state and the calls it has to come back from,
// and walks over a token trie that find which tokens some threads can read.
//
// Calls in progress are shared as Earley's origins are (Earley 1970; "graph-structured stack", Tomita 1985): one entry
// for each rule and place in the text where it was called, whoever called it. So threads are at most as many as states
// times places, however ambiguous the grammar, and nothing here recurses.
//
// One thread per Simulation; the automaton and the trie must outlive it.
#ifndef NIBBLE_ENGINE_GRAMMAR_SIMULATION_H_
#define NIBBLE_ENGINE_GRAMMAR_SIMULATION_H_

#include <algorithm>
#include <cstdint>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/types/span.h"
#include "engine/grammar/automaton.h"
#include "engine/grammar/token_trie.h"

namespace nibble::engine::grammar {

struct Thread {
  int32_t state = 0;
  int32_t origin = -1;  // of its rule's call; -1: the bottom, whose caller is not known here
};

class Simulation {
 public:
  explicit Simulation(const Automaton& automaton)
      : automaton_(automaton), last_origin_(static_cast<size_t>(automaton.num_rules())) {}

  // Replaces `threads` by those that have read one more byte. Steps are one for each thread, call and caller looked at;
  // where they come to be more than `last_step` in all, it stops, and what it leaves is of no use.
  void Read(uint8_t byte, int64_t last_step, std::vector<Thread>* threads);
  // Forgets calls that none of `threads`, all there are, can come back to, and renumbers the others: now and then, as
  // the number of entries says.
  void DropFinishedCalls(std::vector<Thread>* threads);
  // `threads` and those that they become where a rule ends, each once. Stops as Read.
  std::vector<Thread> WithReturns(absl::Span<const Thread> threads, int64_t last_step);
  // The callers of the thread's rule, past its end. REQUIRES: thread.origin >= 0.
  void AppendCallers(const Thread& thread, std::vector<Thread>* out) const;
  // Whether a thread's rule may end here with nobody to come back to.
  bool AtBottomEnd(absl::Span<const Thread> with_returns) const;

  struct WalkResult {
    bool finished = true;        // false: `max_steps` were not enough
    std::vector<int32_t> exits;  // nodes with more below where a rule at the bottom ended
    int64_t path_steps = 0;      // that the way to one node reached took, at most
  };
  // Walks what lies below `roots` (nodes of the trie) as far as `threads`, standing at each root, can read it, and
  // calls sink(node) at each node reached. Exits are gathered where `wants_exits`.
  template <typename Sink>
  WalkResult Walk(const TokenTrie& trie, absl::Span<const int32_t> roots, absl::Span<const Thread> threads,
                  bool wants_exits, int64_t max_steps, const Sink& sink);

  int64_t steps() const { return steps_; }
  size_t stack_entries() const { return origins_.size() + callers_.size(); }

 private:
  static constexpr size_t kDropEvery = 1 << 15;

  // Callers of one rule at one place in the text, as a list.
  struct Origin {
    RuleId rule;
    int32_t first_caller;
  };
  struct Caller {
    int32_t back_to, origin, next;
  };
  struct Frame {
    size_t begin;  // in pool_
    size_t origins, callers;
    int64_t path_steps = 0;  // that it took to get here
  };

  bool TookTooLong() const { return steps_ > last_step_; }
  // Appends to pool_, from `begin` on, what `kernel` becomes before the next byte: calls begun, ended rules left; only
  // a part of it where that takes too long. True where a rule at the bottom ended.
  bool Close(absl::Span<const Thread> kernel);
  bool Expand(size_t thread, size_t begin, size_t first_new_origin);
  void Begin(const Automaton::Call& call, const Thread& caller, size_t begin, size_t first_new_origin);
  void AddCallersToPool(const Thread& thread, size_t begin);
  size_t OriginHere(RuleId rule, size_t first_new_origin);
  void AddToPool(Thread thread, size_t begin);
  bool IsInPool(const Thread& thread, size_t begin);
  // By origin, whether `threads` lead to it.
  std::vector<bool> Reached(absl::Span<const Thread> threads) const;
  // Cuts pool_ and the stack back to what they were at the beginning of `frame`.
  void Drop(const Frame& frame);
  void Step(size_t begin, size_t end, int byte_class, std::vector<Thread>* out);

  const Automaton& automaton_;
  std::vector<Origin> origins_;
  std::vector<Caller> callers_;
  std::vector<Thread> pool_;            // closed sets, one behind the other
  absl::flat_hash_set<uint64_t> seen_;  // the set being closed, where it is too large to look through
  std::vector<uint32_t> last_origin_;   // by rule: its latest origin, where it is still there
  std::vector<Frame> frames_;
  std::vector<Thread> kernel_;
  int64_t steps_ = 0, last_step_ = 0;
  size_t drop_above_ = kDropEvery;  // entries of the stack
};

template <typename Sink>
Simulation::WalkResult Simulation::Walk(const TokenTrie& trie, absl::Span<const int32_t> roots,
                                        absl::Span<const Thread> threads, bool wants_exits, int64_t max_steps,
                                        const Sink& sink) {
  WalkResult result;
  const absl::Span<const TokenTrie::Node> nodes = trie.nodes();
  int64_t before = steps_;
  last_step_ = steps_ + max_steps;
  frames_.assign(1, {pool_.size(), origins_.size(), callers_.size()});
  const Frame bottom = frames_[0];
  Close(threads);
  frames_[0].path_steps = steps_ - before;
  for (const int32_t root : roots) {
    const int32_t root_depth = nodes[static_cast<size_t>(root)].depth;
    int32_t i = root + 1;
    while (i < nodes[static_cast<size_t>(root)].end) {
      const TokenTrie::Node& node = nodes[static_cast<size_t>(i)];
      const size_t depth = static_cast<size_t>(node.depth - root_depth);
      if (frames_.size() > depth) {
        Drop(frames_[depth]);
        frames_.resize(depth);
      }
      kernel_.clear();
      const int64_t path_steps = frames_.back().path_steps + static_cast<int64_t>(pool_.size() - frames_.back().begin);
      Step(frames_.back().begin, pool_.size(), automaton_.ClassOf(node.byte), &kernel_);
      if (TookTooLong()) {
        result.finished = false;
        Drop(bottom);
        return result;
      }
      if (kernel_.empty()) {
        i = node.end;
        continue;
      }
      sink(node);
      result.path_steps = std::max(result.path_steps, path_steps);
      if (node.end > i + 1) {
        frames_.push_back({pool_.size(), origins_.size(), callers_.size(), path_steps});
        before = steps_;
        if (Close(kernel_) && wants_exits) result.exits.push_back(i);
        frames_.back().path_steps += steps_ - before;
      }
      ++i;
    }
    if (frames_.size() > 1) {
      Drop(frames_[1]);
      frames_.resize(1);
    }
  }
  Drop(bottom);
  return result;
}

}  // namespace nibble::engine::grammar

#endif  // NIBBLE_ENGINE_GRAMMAR_SIMULATION_H_
