#include "engine/grammar/simulation.h"

#include <utility>

#include "engine/grammar/limits.h"

namespace nibble::engine::grammar {
namespace {

constexpr int kLookedThrough = 16;  // one by one

}  // namespace

void Simulation::Step(size_t begin, size_t end, int byte_class, std::vector<Thread>* out) {
  steps_ += static_cast<int64_t>(end - begin);
  for (size_t i = begin; i < end; ++i) {
    const int32_t next = automaton_.Next(pool_[i].state, byte_class);
    if (next >= 0) out->push_back({next, pool_[i].origin});
  }
}

bool Simulation::IsInPool(const Thread& thread, size_t begin) {
  const auto key = [](const Thread& t) {
    return uint64_t{static_cast<uint32_t>(t.state)} << 32 | static_cast<uint32_t>(t.origin);
  };
  if (pool_.size() - begin > size_t{kLookedThrough}) {
    if (seen_.empty()) {
      for (size_t i = begin; i < pool_.size(); ++i) seen_.insert(key(pool_[i]));
    }
    return !seen_.insert(key(thread)).second;
  }
  for (size_t i = begin; i < pool_.size(); ++i) {
    if (key(pool_[i]) == key(thread)) return true;
  }
  return false;
}

void Simulation::AddToPool(Thread thread, size_t begin) {
  if (!IsInPool(thread, begin)) pool_.push_back(thread);
}

bool Simulation::Close(absl::Span<const Thread> kernel) {
  const size_t begin = pool_.size(), first_new_origin = origins_.size();
  if (kernel.size() == 1 && automaton_.Calls(kernel[0].state).empty()) {
    // Nearly all of a walk, and nothing to find: inside a string, say.
    const bool ends = automaton_.Accepts(kernel[0].state);
    if (!ends || kernel[0].origin < 0) {
      pool_.push_back(kernel[0]);
      return ends;
    }
  }
  for (const Thread& thread : kernel) AddToPool(thread, begin);
  bool ended_at_bottom = false;
  for (size_t i = begin; i < pool_.size() && !TookTooLong(); ++i) {
    ended_at_bottom |= Expand(i, begin, first_new_origin);
  }
  seen_.clear();
  return ended_at_bottom;
}

bool Simulation::Expand(size_t index, size_t begin, size_t first_new_origin) {
  const Thread thread = pool_[index];
  ++steps_;
  for (const Automaton::Call& call : automaton_.Calls(thread.state)) Begin(call, thread, begin, first_new_origin);
  if (!automaton_.Accepts(thread.state)) return false;
  if (thread.origin < 0) return true;
  AddCallersToPool(thread, begin);
  return false;
}

void Simulation::AddCallersToPool(const Thread& thread, size_t begin) {
  for (int32_t i = origins_[static_cast<size_t>(thread.origin)].first_caller; i >= 0 && !TookTooLong();) {
    const Caller caller = callers_[static_cast<size_t>(i)];
    AddToPool({caller.back_to, caller.origin}, begin);
    i = caller.next;
    ++steps_;
  }
}

void Simulation::Begin(const Automaton::Call& call, const Thread& caller, size_t begin, size_t first_new_origin) {
  ++steps_;
  // Who would only end after the call need not be come back to.
  if (automaton_.OnlyEnds(call.back_to)) return AddToPool({call.start, caller.origin}, begin);
  const size_t origin = OriginHere(call.rule, first_new_origin);
  // Who is there twice is only come back to twice, in vain: not worth looking through them all.
  int looked_through = 0;
  for (int32_t i = origins_[origin].first_caller; i >= 0 && looked_through < kLookedThrough; ++looked_through) {
    const Caller& known = callers_[static_cast<size_t>(i)];
    if (known.back_to == call.back_to && known.origin == caller.origin) return;
    i = known.next;
  }
  callers_.push_back({call.back_to, caller.origin, origins_[origin].first_caller});
  origins_[origin].first_caller = static_cast<int32_t>(callers_.size()) - 1;
  AddToPool({call.start, static_cast<int32_t>(origin)}, begin);
}

size_t Simulation::OriginHere(RuleId rule, size_t first_new_origin) {
  uint32_t& last = last_origin_[static_cast<size_t>(rule)];
  if (last < first_new_origin || last >= origins_.size() || origins_[last].rule != rule) {
    last = static_cast<uint32_t>(origins_.size());
    origins_.push_back({rule, -1});
  }
  return last;
}

void Simulation::Drop(const Frame& frame) {
  pool_.resize(frame.begin);
  origins_.resize(frame.origins);
  callers_.resize(frame.callers);
}

void Simulation::Read(uint8_t byte, int64_t last_step, std::vector<Thread>* threads) {
  last_step_ = last_step;
  const Frame frame = {pool_.size(), origins_.size(), callers_.size()};
  Close(*threads);
  threads->clear();
  Step(frame.begin, pool_.size(), automaton_.ClassOf(byte), threads);
  bool keeps_calls = false;
  for (const Thread& thread : *threads) keeps_calls |= thread.origin >= static_cast<int32_t>(frame.origins);
  pool_.resize(frame.begin);
  if (!keeps_calls) Drop(frame);
}

std::vector<bool> Simulation::Reached(absl::Span<const Thread> threads) const {
  std::vector<bool> reached(origins_.size());
  std::vector<int32_t> todo;
  const auto reach = [&](int32_t origin) {
    if (origin < 0 || reached[static_cast<size_t>(origin)]) return;
    reached[static_cast<size_t>(origin)] = true;
    todo.push_back(origin);
  };
  for (const Thread& thread : threads) reach(thread.origin);
  while (!todo.empty()) {
    int32_t i = origins_[static_cast<size_t>(todo.back())].first_caller;
    todo.pop_back();
    for (; i >= 0; i = callers_[static_cast<size_t>(i)].next) reach(callers_[static_cast<size_t>(i)].origin);
  }
  return reached;
}

void Simulation::DropFinishedCalls(std::vector<Thread>* threads) {
  if (stack_entries() <= std::min(drop_above_, kMaxStackEntries)) return;
  const std::vector<bool> reached = Reached(*threads);
  std::vector<int32_t> new_index(origins_.size(), -1);
  int32_t kept = 0;
  for (size_t i = 0; i < origins_.size(); ++i) {
    if (reached[i]) new_index[i] = kept++;
  }
  const auto renumbered = [&](int32_t origin) { return origin < 0 ? origin : new_index[static_cast<size_t>(origin)]; };
  std::vector<Origin> origins;
  std::vector<Caller> callers;
  for (size_t i = 0; i < origins_.size(); ++i) {
    if (!reached[i]) continue;
    origins.push_back({origins_[i].rule, static_cast<int32_t>(callers.size())});  // whoever is reached has a caller
    for (int32_t j = origins_[i].first_caller; j >= 0; j = callers_[static_cast<size_t>(j)].next) {
      const Caller& caller = callers_[static_cast<size_t>(j)];
      callers.push_back({caller.back_to, renumbered(caller.origin), static_cast<int32_t>(callers.size()) + 1});
    }
    callers.back().next = -1;
  }
  for (Thread& thread : *threads) thread.origin = renumbered(thread.origin);
  origins_ = std::move(origins);
  callers_ = std::move(callers);
  drop_above_ = stack_entries() + kDropEvery;
}

std::vector<Thread> Simulation::WithReturns(absl::Span<const Thread> threads, int64_t last_step) {
  last_step_ = last_step;
  for (const Thread& thread : threads) AddToPool(thread, 0);
  for (size_t i = 0; i < pool_.size() && !TookTooLong(); ++i) {
    ++steps_;
    const Thread thread = pool_[i];
    if (automaton_.Accepts(thread.state) && thread.origin >= 0) AddCallersToPool(thread, 0);
  }
  seen_.clear();
  std::vector<Thread> result;
  result.swap(pool_);
  return result;
}

void Simulation::AppendCallers(const Thread& thread, std::vector<Thread>* out) const {
  for (int32_t i = origins_[static_cast<size_t>(thread.origin)].first_caller; i >= 0;) {
    const Caller& caller = callers_[static_cast<size_t>(i)];
    out->push_back({caller.back_to, caller.origin});
    i = caller.next;
  }
}

bool Simulation::AtBottomEnd(absl::Span<const Thread> with_returns) const {
  for (const Thread& thread : with_returns) {
    if (thread.origin < 0 && automaton_.Accepts(thread.state)) return true;
  }
  return false;
}

}  // namespace nibble::engine::grammar
