#include "engine/grammar/nfa.h"

#include <algorithm>

#include "absl/functional/function_ref.h"
#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/grammar/limits.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine::grammar {
namespace {

using Kind = Builder::Kind;

// Rules, each after all that it calls (Kahn's topological order); those that call themselves, if only through others,
// and all that call one of those, are missing. `calls`: asked once for each rule.
std::vector<RuleId> CalleesFirst(size_t num_rules, absl::FunctionRef<std::vector<RuleId>(RuleId)> calls) {
  std::vector<std::vector<RuleId>> callers(num_rules);
  std::vector<int32_t> waiting(num_rules, 0);
  std::vector<RuleId> ready, order;
  for (size_t rule = 0; rule < num_rules; ++rule) {
    for (const RuleId callee : calls(static_cast<RuleId>(rule))) {
      callers[static_cast<size_t>(callee)].push_back(static_cast<RuleId>(rule));
      ++waiting[rule];
    }
    if (waiting[rule] == 0) ready.push_back(static_cast<RuleId>(rule));
  }
  while (!ready.empty()) {
    order.push_back(ready.back());
    ready.pop_back();
    for (const RuleId caller : callers[static_cast<size_t>(order.back())]) {
      if (--waiting[static_cast<size_t>(caller)] == 0) ready.push_back(caller);
    }
  }
  return order;
}

// Sizes of expressions and rules, to decide which rules are copied. A size beyond kMaxCopiedRuleSize is not told apart.
class Sizes {
 public:
  explicit Sizes(const Builder& builder) : builder_(builder), copied_(builder.rules().size(), -1) {
    // Rules that are recursive, or call one that is, are not among them.
    for (const RuleId rule : CalleesFirst(builder.rules().size(), [this](RuleId r) { return CallsOf(r); })) {
      const Builder::Rule& body = builder.rules()[static_cast<size_t>(rule)];
      copied_[static_cast<size_t>(rule)] = body.apart ? kMaxCopiedRuleSize + 1 : SizeOf(body.body);
    }
  }

  bool IsCopied(RuleId rule) const {
    const int64_t size = copied_[static_cast<size_t>(rule)];
    return size >= 0 && size <= kMaxCopiedRuleSize;
  }

 private:
  // The rules that a rule's body calls.
  std::vector<RuleId> CallsOf(RuleId rule) const {
    const ExprId body = builder_.rules()[static_cast<size_t>(rule)].body;
    std::vector<RuleId> calls;
    std::vector<ExprId> todo = {body};
    std::vector<bool> seen(static_cast<size_t>(body) + 1);  // parts come before the whole
    while (!todo.empty()) {
      const ExprId id = todo.back();
      todo.pop_back();
      if (seen[static_cast<size_t>(id)]) continue;
      seen[static_cast<size_t>(id)] = true;
      const Builder::Expression& expression = builder_.expression(id);
      if (expression.kind == Kind::kRule) calls.push_back(expression.child);
      if (expression.kind == Kind::kRepeat) todo.push_back(expression.child);
      for (const Builder::Edge& edge : expression.edges) todo.push_back(edge.label);
    }
    std::sort(calls.begin(), calls.end());
    calls.erase(std::unique(calls.begin(), calls.end()), calls.end());
    return calls;
  }

  int64_t SizeOf(ExprId id) {
    const Builder::Expression& expression = builder_.expression(id);
    int64_t size = 1 + static_cast<int64_t>(expression.literal.size());
    if (expression.kind == Kind::kRule && IsCopied(expression.child)) {
      size += copied_[static_cast<size_t>(expression.child)];
    }
    if (expression.kind == Kind::kRepeat) {
      const int64_t copies = std::max<int64_t>({expression.min, expression.max, 1});
      size = copies > kMaxCopiedRuleSize ? copies : copies * SizeOf(expression.child);
    }
    for (const Builder::Edge& edge : expression.edges) {
      if (size > kMaxCopiedRuleSize) break;
      size += SizeOf(edge.label);
    }
    return std::min(size, kMaxCopiedRuleSize + 1);
  }

  const Builder& builder_;
  std::vector<int64_t> copied_;  // by rule; -1: recursive
};

class Lowering {
 public:
  explicit Lowering(const Builder& builder) : builder_(builder), sizes_(builder) {}

  // Only what `root` calls.
  absl::StatusOr<Nfa> Run(RuleId root) {
    nfa_.rules.resize(builder_.rules().size());
    Want(root);
    while (!wanted_.empty()) {
      const size_t rule = static_cast<size_t>(wanted_.back());
      wanted_.pop_back();
      const Nfa::RuleStates states = nfa_.rules[rule];
      NIBBLE_RETURN_IF_ERROR(Lower(builder_.rules()[rule].body, states.start, states.accept));
    }
    return std::move(nfa_);
  }

 private:
  int32_t NewState() { return nfa_.num_states++; }

  void Want(RuleId rule) {
    Nfa::RuleStates& states = nfa_.rules[static_cast<size_t>(rule)];
    if (states.start >= 0) return;
    states = {NewState(), NewState()};
    wanted_.push_back(rule);
  }

  // Recursion is as deep as expressions are, which kMaxExpressionDepth and kMaxCopiedRuleSize bound.
  absl::Status Lower(ExprId id, int32_t from, int32_t to) {
    const Builder::Expression& expression = builder_.expression(id);
    if (nfa_.num_states > kMaxNfaStates || nfa_.edges.size() > 4 * kMaxNfaStates) {
      return absl::InvalidArgumentError(absl::StrCat("is too large: more than ", kMaxNfaStates, " states"));
    }
    if (expression.depth > kMaxExpressionDepth) return absl::InvalidArgumentError("is nested too deep");
    switch (expression.kind) {
      case Kind::kLiteral:
        return LowerLiteral(expression.literal, from, to);
      case Kind::kByteRange:
        nfa_.edges.push_back({from, to, Nfa::Label::kBytes, expression.low, expression.high, -1});
        return absl::OkStatus();
      case Kind::kRepeat:
        return LowerRepeat(expression, from, to);
      case Kind::kRule:
        if (sizes_.IsCopied(expression.child)) {
          return Lower(builder_.rules()[static_cast<size_t>(expression.child)].body, from, to);
        }
        Want(expression.child);
        nfa_.edges.push_back({from, to, Nfa::Label::kCall, 0, 0, expression.child});
        return absl::OkStatus();
      case Kind::kGraph:
        return LowerGraph(expression, from, to);
    }
    return absl::OkStatus();
  }

  absl::Status LowerLiteral(const std::string& literal, int32_t from, int32_t to) {
    for (const char c : literal) {
      const int32_t next = NewState();
      const uint8_t byte = static_cast<uint8_t>(c);
      nfa_.edges.push_back({from, next, Nfa::Label::kBytes, byte, byte, -1});
      from = next;
    }
    Jump(from, to);
    return absl::OkStatus();
  }

  absl::Status LowerRepeat(const Builder::Expression& expression, int32_t from, int32_t to) {
    for (int64_t i = 0; i < expression.min; ++i) {
      const int32_t next = NewState();
      NIBBLE_RETURN_IF_ERROR(Lower(expression.child, from, next));
      from = next;
    }
    if (expression.max == kUnbounded) {
      const int32_t loop = NewState();
      Jump(from, loop);
      NIBBLE_RETURN_IF_ERROR(Lower(expression.child, loop, loop));
      Jump(loop, to);
      return absl::OkStatus();
    }
    for (int64_t i = expression.min; i < expression.max; ++i) {
      Jump(from, to);
      const int32_t next = NewState();
      NIBBLE_RETURN_IF_ERROR(Lower(expression.child, from, next));
      from = next;
    }
    Jump(from, to);
    return absl::OkStatus();
  }

  absl::Status LowerGraph(const Builder::Expression& expression, int32_t from, int32_t to) {
    // Nodes of its own: a graph may come back to its first or last node.
    int32_t highest = expression.child;
    for (const Builder::Edge& edge : expression.edges) highest = std::max({highest, edge.from, edge.to});
    const int32_t first = nfa_.num_states;
    nfa_.num_states += highest + 1;
    Jump(from, first);
    for (const Builder::Edge& edge : expression.edges) {
      NIBBLE_RETURN_IF_ERROR(Lower(edge.label, first + edge.from, first + edge.to));
    }
    Jump(first + expression.child, to);
    return absl::OkStatus();
  }

  void Jump(int32_t from, int32_t to) { nfa_.edges.push_back({from, to, Nfa::Label::kNothing, 0, 0, -1}); }

  const Builder& builder_;
  const Sizes sizes_;
  std::vector<RuleId> wanted_;
  Nfa nfa_;
};

// The states from which their rule's end can be reached: over `bytes` and calls of rules that have such a way.
std::vector<bool> StatesWithEnd(const Nfa& nfa, const std::bitset<256>& bytes) {
  const size_t num_states = static_cast<size_t>(nfa.num_states), num_rules = nfa.rules.size();
  std::vector<std::vector<int32_t>> edges_into(num_states), calls_of(num_rules);
  for (size_t i = 0; i < nfa.edges.size(); ++i) {
    edges_into[static_cast<size_t>(nfa.edges[i].to)].push_back(static_cast<int32_t>(i));
    if (nfa.edges[i].label == Nfa::Label::kCall) {
      calls_of[static_cast<size_t>(nfa.edges[i].rule)].push_back(static_cast<int32_t>(i));
    }
  }
  std::vector<RuleId> rule_begun_by(num_states, -1);
  for (size_t rule = 0; rule < num_rules; ++rule) {
    if (!nfa.IsCalled(rule)) continue;
    rule_begun_by[static_cast<size_t>(nfa.rules[rule].start)] = static_cast<RuleId>(rule);
  }
  std::vector<bool> reached(num_states);
  std::vector<int32_t> todo;
  const auto reach = [&](int32_t state) {
    if (reached[static_cast<size_t>(state)]) return;
    reached[static_cast<size_t>(state)] = true;
    todo.push_back(state);
  };
  const auto passable = [&](const Nfa::Edge& edge) {
    if (edge.label == Nfa::Label::kNothing) return true;
    if (edge.label == Nfa::Label::kCall) return bool{reached[nfa.rules[static_cast<size_t>(edge.rule)].start]};
    if (bytes.none()) return false;
    for (int byte = edge.low; byte <= edge.high; ++byte) {
      if (bytes[static_cast<size_t>(byte)]) return true;
    }
    return false;
  };
  for (size_t rule = 0; rule < num_rules; ++rule) {
    if (nfa.IsCalled(rule)) reach(nfa.rules[rule].accept);
  }
  while (!todo.empty()) {
    const int32_t state = todo.back();
    todo.pop_back();
    for (const int32_t i : edges_into[static_cast<size_t>(state)]) {
      if (passable(nfa.edges[static_cast<size_t>(i)])) reach(nfa.edges[static_cast<size_t>(i)].from);
    }
    const RuleId begun = rule_begun_by[static_cast<size_t>(state)];
    if (begun < 0) continue;
    for (const int32_t i : calls_of[static_cast<size_t>(begun)]) {
      const Nfa::Edge& call = nfa.edges[static_cast<size_t>(i)];
      if (reached[static_cast<size_t>(call.to)]) reach(call.from);
    }
  }
  return reached;
}

// The edges over spellable bytes, one for each run of them, and the others as they are.
std::vector<Nfa::Edge> LiveEdges(const Nfa& nfa, const std::bitset<256>& spellable, const std::vector<bool>& live) {
  std::vector<Nfa::Edge> kept;
  for (const Nfa::Edge& edge : nfa.edges) {
    if (!live[static_cast<size_t>(edge.from)] || !live[static_cast<size_t>(edge.to)]) continue;
    if (edge.label == Nfa::Label::kCall && !live[static_cast<size_t>(nfa.rules[edge.rule].start)]) continue;
    if (edge.label != Nfa::Label::kBytes) {
      kept.push_back(edge);
      continue;
    }
    for (int low = edge.low; low <= edge.high; ++low) {
      if (!spellable[static_cast<size_t>(low)]) continue;
      int high = low;
      while (high < edge.high && spellable[static_cast<size_t>(high) + 1]) ++high;
      Nfa::Edge& run = kept.emplace_back(edge);
      run.low = static_cast<uint8_t>(low);
      run.high = static_cast<uint8_t>(high);
      low = high;
    }
  }
  std::stable_sort(kept.begin(), kept.end(), [](const auto& a, const auto& b) { return a.from < b.from; });
  return kept;
}

void IndexEdges(Nfa* nfa) {
  nfa->first_edge.assign(static_cast<size_t>(nfa->num_states) + 1, 0);
  for (const Nfa::Edge& edge : nfa->edges) ++nfa->first_edge[static_cast<size_t>(edge.from) + 1];
  for (size_t i = 1; i < nfa->first_edge.size(); ++i) nfa->first_edge[i] += nfa->first_edge[i - 1];
}

// The rules that `rule` can call before it has read a byte.
std::vector<RuleId> LeftCalls(const Nfa& nfa, RuleId rule, std::vector<int32_t>* seen_by) {
  std::vector<RuleId> calls;
  std::vector<int32_t> todo;
  if (nfa.IsCalled(static_cast<size_t>(rule))) todo.push_back(nfa.rules[static_cast<size_t>(rule)].start);
  while (!todo.empty()) {
    const int32_t state = todo.back();
    todo.pop_back();
    if ((*seen_by)[static_cast<size_t>(state)] == rule) continue;
    (*seen_by)[static_cast<size_t>(state)] = rule;
    for (const Nfa::Edge& edge : nfa.EdgesOf(state)) {
      if (edge.label == Nfa::Label::kCall) calls.push_back(edge.rule);
      const bool passes = edge.label == Nfa::Label::kNothing ||
                          (edge.label == Nfa::Label::kCall && nfa.nullable[static_cast<size_t>(edge.rule)]);
      if (passes) todo.push_back(edge.to);
    }
  }
  return calls;
}

absl::Status CheckLeftRecursion(const Builder& builder, const Nfa& nfa) {
  const size_t num_rules = nfa.rules.size();
  std::vector<int32_t> seen_by(static_cast<size_t>(nfa.num_states), -1);
  std::vector<bool> reached(num_rules);
  const auto calls = [&](RuleId rule) { return LeftCalls(nfa, rule, &seen_by); };
  for (const RuleId rule : CalleesFirst(num_rules, calls)) reached[static_cast<size_t>(rule)] = true;
  for (size_t rule = 0; rule < num_rules; ++rule) {
    if (reached[rule]) continue;
    return absl::InvalidArgumentError(
        absl::StrCat("the rule '", builder.rules()[rule].name, "' leads to left recursion"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Nfa> MakeNfa(const Builder& builder, RuleId root) { return Lowering(builder).Run(root); }

absl::Status Trim(const Builder& builder, const std::bitset<256>& spellable, RuleId root, Nfa* nfa) {
  const std::vector<bool> live = StatesWithEnd(*nfa, spellable);
  if (!live[static_cast<size_t>(nfa->rules[static_cast<size_t>(root)].start)]) {
    return absl::InvalidArgumentError("no text that the model can spell matches");
  }
  nfa->edges = LiveEdges(*nfa, spellable, live);
  IndexEdges(nfa);
  const std::vector<bool> at_once = StatesWithEnd(*nfa, std::bitset<256>());
  nfa->nullable.clear();
  for (size_t rule = 0; rule < nfa->rules.size(); ++rule) {
    nfa->nullable.push_back(nfa->IsCalled(rule) && at_once[static_cast<size_t>(nfa->rules[rule].start)]);
  }
  return CheckLeftRecursion(builder, *nfa);
}

}  // namespace nibble::engine::grammar
