// What a grammar may take, counted and never timed: the same grammar is refused or accepted on every machine.
#ifndef NIBBLE_ENGINE_GRAMMAR_LIMITS_H_
#define NIBBLE_ENGINE_GRAMMAR_LIMITS_H_

#include <cstddef>
#include <cstdint>

namespace nibble::engine::grammar {

inline constexpr size_t kMaxSourceBytes = 64 << 10;  // of a schema, an expression, a grammar, or all choices together
inline constexpr int kMaxDepth = 64;                 // of groups in groups, values in values

// Compiling.
inline constexpr int64_t kMaxExpressionSize = 1 << 18;       // of all expressions, their parts and bytes, before copies
inline constexpr int kMaxExpressionDepth = 512;              // what kMaxDepth nested constructs become
inline constexpr int64_t kMaxNfaStates = 1 << 18;            // a copy for each use and repetition
inline constexpr int64_t kMaxStates = 1 << 17;               // after making it deterministic
inline constexpr int64_t kMaxTableEntries = 1 << 22;         // states times classes of bytes, 4 bytes each
inline constexpr int64_t kMaxCompileSteps = 1 << 23;         // transitions looked at
inline constexpr int64_t kMaxCopiedRuleSize = 256;           // a larger rule is called, not copied
inline constexpr int64_t kWarmUpSteps = int64_t{1} << 22;    // spent on masks when a grammar is compiled
inline constexpr int64_t kMaxAlikeSteps = int64_t{1} << 26;  // transitions looked at to find states alike

// Matching.
inline constexpr int64_t kMaxStateMaskSteps = int64_t{1} << 23;  // to learn what the states of a place allow
inline constexpr int64_t kMaxMaskSteps = int64_t{1} << 21;       // for one token's mask, beside that
inline constexpr int64_t kMaxReadSteps = int64_t{1} << 18;       // to read one token; a mask has none that takes more
inline constexpr size_t kMaxStackEntries = 1 << 17;              // of one answer's calls in progress

}  // namespace nibble::engine::grammar

#endif  // NIBBLE_ENGINE_GRAMMAR_LIMITS_H_
