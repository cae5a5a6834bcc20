#include "engine/grammar/grammar.h"

#include <algorithm>
#include <atomic>

#include "engine/grammar/alike_states.h"
#include "engine/grammar/limits.h"
#include "kvcache/base/check.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine::grammar {
namespace {

uint64_t NextId() {
  static std::atomic<uint64_t> next = 0;
  return next++;
}

void SetBit(int32_t id, absl::Span<uint64_t> mask) { mask[static_cast<size_t>(id) / 64] |= uint64_t{1} << (id % 64); }
void ClearBit(int32_t id, absl::Span<uint64_t> mask) {
  mask[static_cast<size_t>(id) / 64] &= ~(uint64_t{1} << (id % 64));
}

// How many of `exits`, which are in preorder, lie one below the other.
int64_t MostOnAPath(const TokenTrie& trie, absl::Span<const int32_t> exits) {
  std::vector<int32_t> ends;
  size_t most = 0;
  for (const int32_t node : exits) {
    while (!ends.empty() && ends.back() <= node) ends.pop_back();
    ends.push_back(trie.nodes()[static_cast<size_t>(node)].end);
    most = std::max(most, ends.size());
  }
  return static_cast<int64_t>(most);
}

// nullptr where it takes more than `max_steps`.
std::shared_ptr<const StateMask> WorkOut(const TokenTrie& trie, int32_t state, int64_t max_steps,
                                         Simulation* simulation) {
  auto result = std::make_shared<StateMask>();
  const Thread thread = {state, -1};
  const int32_t root = 0;
  const int64_t before = simulation->steps();
  auto walk = simulation->Walk(trie, {&root, 1}, {&thread, 1}, true, max_steps, [&](const TokenTrie::Node& node) {
    const auto ids = trie.ids().subspan(static_cast<size_t>(node.first_token), node.num_tokens);
    result->ids.insert(result->ids.end(), ids.begin(), ids.end());
  });
  if (!walk.finished) return nullptr;
  result->steps = simulation->steps() - before;
  result->path_steps = walk.path_steps;
  result->exits = std::move(walk.exits);
  result->exits_on_a_path = MostOnAPath(trie, result->exits);
  if (result->ids.size() * sizeof(int32_t) > trie.mask_words() * sizeof(uint64_t)) {
    result->words.resize(trie.mask_words());
    for (const int32_t id : result->ids) SetBit(id, absl::MakeSpan(result->words));
    result->ids.clear();
  }
  result->ids.shrink_to_fit();
  result->exits.shrink_to_fit();
  return result;
}

}  // namespace

size_t StateMask::bytes() const {
  return sizeof(*this) + (ids.size() + exits.size()) * sizeof(int32_t) + words.size() * sizeof(uint64_t);
}

Grammar::Grammar(Automaton automaton, std::shared_ptr<Vocabulary> vocabulary)
    : id_(NextId()),
      automaton_(std::move(automaton)),
      vocabulary_(std::move(vocabulary)),
      alike_(AlikeStates(automaton_, trie().max_depth())) {}

absl::StatusOr<std::shared_ptr<const Grammar>> Grammar::Compile(const Builder& builder, RuleId root,
                                                                std::shared_ptr<Vocabulary> vocabulary) {
  NIBBLE_ASSIGN_OR_RETURN(Automaton automaton, Automaton::Compile(builder, root, vocabulary->trie.single_bytes()));
  std::shared_ptr<const Grammar> grammar(new Grammar(std::move(automaton), std::move(vocabulary)));
  NIBBLE_RETURN_IF_ERROR(grammar->WarmUp());
  return grammar;
}

std::shared_ptr<const StateMask> Grammar::MaskOf(int32_t state, Simulation* simulation) const {
  state = Representative(state);
  const std::pair<uint64_t, int32_t> key(id_, state);
  if (std::shared_ptr<const StateMask> known = vocabulary_->masks.Find(key)) return known;
  std::shared_ptr<const StateMask> mask = WorkOut(trie(), state, kMaxStateMaskSteps, simulation);
  if (mask == nullptr) return nullptr;
  const size_t bytes = mask->bytes();
  return vocabulary_->masks.Insert(key, std::move(mask), bytes);
}

absl::Status Grammar::WarmUp() const {
  Simulation simulation(automaton_);
  for (int32_t state = 0; state < automaton_.num_states() && simulation.steps() < kWarmUpSteps; ++state) {
    if (Representative(state) != state) continue;
    if (MaskOf(state, &simulation) == nullptr) {
      return absl::InvalidArgumentError(
          "has too many ways to read a text: the tokens that it allows take too long to find");
    }
  }
  return absl::OkStatus();
}

Matcher::Matcher(std::shared_ptr<const Grammar> grammar)
    : grammar_(std::move(grammar)),
      simulation_(grammar_->automaton()),
      threads_({{grammar_->automaton().start(), -1}}),
      with_returns_(threads_) {}

bool Matcher::Accept(int32_t token) {
  const std::string_view bytes = grammar_->trie().TokenBytes(token);
  const int64_t last_step = simulation_.steps() + kMaxReadSteps;
  for (const char byte : bytes) {
    simulation_.Read(static_cast<uint8_t>(byte), last_step, &threads_);
    if (threads_.empty() || simulation_.steps() > last_step) return false;
  }
  simulation_.DropFinishedCalls(&threads_);
  if (simulation_.stack_entries() > kMaxStackEntries) return false;
  const int64_t last_return = simulation_.steps() + kMaxReadSteps;
  with_returns_ = simulation_.WithReturns(threads_, last_return);
  return !bytes.empty() && simulation_.steps() <= last_return;
}

bool Matcher::CanGoOn() const {
  const auto goes_on = [this](const Thread& thread) { return !grammar_->automaton().OnlyEnds(thread.state); };
  return std::any_of(with_returns_.begin(), with_returns_.end(), goes_on);
}

bool Matcher::FillMask(absl::Span<const int32_t> terminators, absl::Span<uint64_t> mask) {
  NIBBLE_CHECK(mask.size() == grammar_->trie().mask_words());
  std::fill(mask.begin(), mask.end(), 0);
  StepsLeft left = {.states = kMaxStateMaskSteps, .mask = kMaxMaskSteps, .read = kMaxReadSteps};
  for (const Thread& thread : with_returns_) {
    const std::shared_ptr<const StateMask> state_mask = grammar_->MaskOf(thread.state, &simulation_);
    if (state_mask == nullptr || !AddExits(thread, *state_mask, mask, &left)) return false;
    left.states -= state_mask->steps;  // whoever took them: in any company alike
    left.read -= state_mask->path_steps;
    if (left.states < 0 || left.read < 0) return false;
    for (size_t i = 0; i < state_mask->words.size(); ++i) mask[i] |= state_mask->words[i];
    for (const int32_t id : state_mask->ids) SetBit(id, mask);
  }
  const bool can_end = CanEnd();
  for (const int32_t id : terminators) can_end ? SetBit(id, mask) : ClearBit(id, mask);
  return true;
}

// The tokens that leave the thread's rule and go on with what its callers allow.
bool Matcher::AddExits(const Thread& thread, const StateMask& state_mask, absl::Span<uint64_t> mask, StepsLeft* left) {
  if (thread.origin < 0 || state_mask.exits.empty()) return true;
  std::vector<Thread> callers;
  simulation_.AppendCallers(thread, &callers);
  const TokenTrie& trie = grammar_->trie();
  const int64_t before = simulation_.steps();
  const auto walk =
      simulation_.Walk(trie, state_mask.exits, callers, false, left->mask, [&](const TokenTrie::Node& node) {
        for (int i = 0; i < node.num_tokens; ++i) SetBit(trie.ids()[static_cast<size_t>(node.first_token + i)], mask);
      });
  left->mask -= simulation_.steps() - before;
  left->read -= walk.path_steps * state_mask.exits_on_a_path;
  return walk.finished;
}

}  // namespace nibble::engine::grammar
