#include "engine/grammar/alike_states.h"

#include <numeric>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "engine/grammar/limits.h"

namespace nibble::engine::grammar {
namespace {

using Signature = std::pair<uint64_t, uint64_t>;  // 128 bits: no two that differ are ever equal in practice

void Mix(int64_t value, Signature* signature) {
  const uint64_t bits = static_cast<uint64_t>(value) + 0x9e3779b97f4a7c15;
  signature->first = (signature->first ^ bits) * 0xbf58476d1ce4e5b9;
  signature->first ^= signature->first >> 29;
  signature->second = (signature->second + bits) * 0x94d049bb133111eb;
  signature->second ^= signature->second >> 31;
}

// One round: what a state was alike in, and where it leads.
Signature SignatureOf(const Automaton& automaton, int32_t state, const std::vector<int32_t>& alike) {
  const auto alike_of = [&](int32_t to) { return to < 0 ? -1 : alike[static_cast<size_t>(to)]; };
  Signature signature = {1, 2};
  Mix(alike_of(state), &signature);
  for (int c = 0; c < automaton.num_classes(); ++c) Mix(alike_of(automaton.Next(state, c)), &signature);
  for (const Automaton::Call& call : automaton.Calls(state)) {
    Mix(call.rule, &signature);
    Mix(alike_of(call.back_to), &signature);
  }
  return signature;
}

}  // namespace

std::vector<int32_t> AlikeStates(const Automaton& automaton, int bytes) {
  const int32_t num_states = automaton.num_states();
  std::vector<int32_t> alike(static_cast<size_t>(num_states));
  std::vector<int32_t> own(static_cast<size_t>(num_states));
  std::iota(own.begin(), own.end(), 0);
  for (int32_t state = 0; state < num_states; ++state) alike[static_cast<size_t>(state)] = automaton.Accepts(state);
  size_t kinds = 0;
  int64_t steps = 0;
  for (int round = 0; round < bytes; ++round) {
    steps += int64_t{num_states} * (automaton.num_classes() + 4) + 2 * automaton.num_calls();
    if (steps > kMaxAlikeSteps) return own;
    absl::flat_hash_map<Signature, int32_t> first;
    std::vector<int32_t> refined;
    for (int32_t state = 0; state < num_states; ++state) {
      refined.push_back(first.try_emplace(SignatureOf(automaton, state, alike), state).first->second);
    }
    alike = std::move(refined);
    if (first.size() == kinds) break;
    kinds = first.size();
  }
  return bytes == 0 ? own : alike;
}

}  // namespace nibble::engine::grammar
