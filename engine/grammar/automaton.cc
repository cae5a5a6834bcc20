#include "engine/grammar/automaton.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/container/node_hash_map.h"
#include "absl/strings/str_cat.h"
#include "engine/grammar/limits.h"
#include "engine/grammar/nfa.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine::grammar {
namespace {

using StateSet = std::vector<int32_t>;  // of the NFA, ascending

}  // namespace

// Subset construction, rule by rule; a call is a symbol like a byte.
class Determinizer {
 public:
  explicit Determinizer(const Nfa& nfa) : nfa_(nfa), seen_in_(static_cast<size_t>(nfa.num_states), -1) {}

  absl::StatusOr<Automaton> Run(RuleId root) {
    MakeClasses();
    result_.start_ = StartOf(root);
    result_.num_rules_ = static_cast<int32_t>(nfa_.rules.size());
    for (size_t state = 0; state < kernels_.size(); ++state)
      NIBBLE_RETURN_IF_ERROR(Expand(static_cast<int32_t>(state)));
    result_.first_call_.push_back(static_cast<uint32_t>(result_.calls_.size()));
    MarkOnlyEnds();
    return std::move(result_);
  }

 private:
  void MakeClasses() {
    std::bitset<257> begins;
    for (const Nfa::Edge& edge : nfa_.edges) {
      if (edge.label != Nfa::Label::kBytes) continue;
      begins.set(edge.low);
      begins.set(static_cast<size_t>(edge.high) + 1);
    }
    int current = 0;
    for (size_t byte = 0; byte < 256; ++byte) {
      if (byte > 0 && begins[byte]) ++current;
      result_.classes_[byte] = static_cast<uint8_t>(current);
    }
    result_.num_classes_ = current + 1;
    targets_.resize(static_cast<size_t>(result_.num_classes_));
  }

  int32_t StartOf(RuleId rule) { return StateOf({nfa_.rules[static_cast<size_t>(rule)].start}, rule); }

  // Sets of different rules never meet: their states are disjoint.
  int32_t StateOf(StateSet kernel, RuleId rule) {
    std::sort(kernel.begin(), kernel.end());
    kernel.erase(std::unique(kernel.begin(), kernel.end()), kernel.end());
    const auto [place, is_new] = states_.emplace(std::move(kernel), static_cast<int32_t>(kernels_.size()));
    if (is_new) {
      kernels_.push_back(&place->first);
      rules_.push_back(rule);
    }
    return place->second;
  }

  bool TookTooLong() const { return steps_ > kMaxCompileSteps; }

  absl::Status CheckLimits() const {
    const int64_t num_states = static_cast<int64_t>(kernels_.size());
    const bool within = num_states <= kMaxStates && num_states * result_.num_classes_ <= kMaxTableEntries;
    if (within && !TookTooLong()) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("needs too many states: at most ", kMaxStates, ", ",
                                                   kMaxTableEntries, " transitions and ", kMaxCompileSteps,
                                                   " steps to find them"));
  }

  absl::Status Expand(int32_t state) {
    NIBBLE_RETURN_IF_ERROR(CheckLimits());
    const RuleId rule = rules_[static_cast<size_t>(state)];
    std::map<RuleId, StateSet> calls;
    GatherTargets(state, &calls);
    NIBBLE_RETURN_IF_ERROR(CheckLimits());  // or else something may be missing
    result_.accepts_.push_back(seen_in_[static_cast<size_t>(nfa_.rules[static_cast<size_t>(rule)].accept)] == state);
    for (StateSet& targets : targets_) {
      result_.next_.push_back(targets.empty() ? -1 : StateOf(std::exchange(targets, {}), rule));
    }
    result_.first_call_.push_back(static_cast<uint32_t>(result_.calls_.size()));
    for (auto& [callee, targets] : calls) {
      result_.calls_.push_back({callee, StartOf(callee), StateOf(std::move(targets), rule)});
    }
    return absl::OkStatus();
  }

  // Where the state's set goes, by class of byte (targets_) and by call; a part of it where that takes too long.
  void GatherTargets(int32_t state, std::map<RuleId, StateSet>* calls) {
    StateSet todo = *kernels_[static_cast<size_t>(state)];
    while (!todo.empty() && !TookTooLong()) {
      const int32_t from = todo.back();
      todo.pop_back();
      if (std::exchange(seen_in_[static_cast<size_t>(from)], state) == state) continue;
      ++steps_;
      for (const Nfa::Edge& edge : nfa_.EdgesOf(from)) {
        if (TookTooLong()) return;
        ++steps_;
        if (edge.label == Nfa::Label::kNothing) todo.push_back(edge.to);
        if (edge.label == Nfa::Label::kBytes) AddTarget(edge);
        if (edge.label != Nfa::Label::kCall) continue;
        (*calls)[edge.rule].push_back(edge.to);
        if (nfa_.nullable[static_cast<size_t>(edge.rule)]) todo.push_back(edge.to);
      }
    }
  }

  void AddTarget(const Nfa::Edge& edge) {
    for (int c = result_.ClassOf(edge.low); c <= result_.ClassOf(edge.high); ++c) {
      targets_[static_cast<size_t>(c)].push_back(edge.to);
      ++steps_;
    }
  }

  void MarkOnlyEnds() {
    for (int32_t state = 0; state < result_.num_states(); ++state) {
      bool only_ends = result_.Accepts(state) && result_.Calls(state).empty();
      for (int c = 0; c < result_.num_classes_; ++c) only_ends = only_ends && result_.Next(state, c) < 0;
      result_.only_ends_.push_back(only_ends);
    }
  }

  const Nfa& nfa_;
  absl::node_hash_map<StateSet, int32_t> states_;
  std::vector<const StateSet*> kernels_;
  std::vector<RuleId> rules_;      // by state
  std::vector<int32_t> seen_in_;   // by state of the NFA: the state whose set it was last seen in
  std::vector<StateSet> targets_;  // by class
  int64_t steps_ = 0;
  Automaton result_;
};

absl::StatusOr<Automaton> Automaton::Compile(const Builder& builder, RuleId root, const std::bitset<256>& spellable) {
  NIBBLE_ASSIGN_OR_RETURN(Nfa nfa, MakeNfa(builder, root));
  NIBBLE_RETURN_IF_ERROR(Trim(builder, spellable, root, &nfa));
  return Determinizer(nfa).Run(root);
}

size_t Automaton::bytes() const {
  return sizeof(*this) + next_.size() * sizeof(int32_t) + 2 * accepts_.size() + calls_.size() * sizeof(Call) +
         first_call_.size() * sizeof(uint32_t);
}

}  // namespace nibble::engine::grammar
