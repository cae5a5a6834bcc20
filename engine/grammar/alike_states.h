// States that no token tells apart.
#ifndef NIBBLE_ENGINE_GRAMMAR_ALIKE_STATES_H_
#define NIBBLE_ENGINE_GRAMMAR_ALIKE_STATES_H_

#include <cstdint>
#include <vector>

#include "engine/grammar/automaton.h"

namespace nibble::engine::grammar {

// For each state the first one that reads the same texts of up to `bytes` bytes, may end its rule in the same places,
// and calls and returns alike: the rounds of Moore's minimization (1956), cut off after `bytes`. A string of at most
// 500 characters so has no more masks than one of at most a token's length. Each state itself where that takes more
// than kMaxAlikeSteps.
std::vector<int32_t> AlikeStates(const Automaton& automaton, int bytes);

}  // namespace nibble::engine::grammar

#endif  // NIBBLE_ENGINE_GRAMMAR_ALIKE_STATES_H_
