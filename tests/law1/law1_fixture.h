// Runs a set of requests through the real scheduler and the real engine under many settings, all writing into one
// ledger.
#ifndef NIBBLE_TESTS_LAW1_LAW1_FIXTURE_H_
#define NIBBLE_TESTS_LAW1_LAW1_FIXTURE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/cpu_engine.h"
#include "scheduler/scheduler.h"
#include "tests/law1/logits_ledger.h"

namespace nibble {

struct Modes {
  engine::WeightMode weights = engine::WeightMode::kFile;
  engine::ActivationMode activations = engine::ActivationMode::kA8;
  std::string kv = "f16";
};

struct Company {
  simd::Isa isa = simd::Isa::kScalar;
  int threads = 1;
  int64_t step_tokens = 4096;  // chunk size, and who fits beside whom
  int64_t max_sequences = 64;
  int64_t pages = 4096;
  int64_t raw_slots = 0;  // 0: as many as pages
  bool together = false;  // all requests submitted at once; otherwise each runs alone in a fresh cache
};

struct RunResult {
  std::vector<std::vector<int32_t>> tokens;  // by request
  sched::Counters counters;                  // of the last scheduler
  int64_t largest_batch = 0;                 // sequences in one step
};

// A seeded set of prompts over a vocabulary, of ragged lengths; every third shares three quarters with its like.
std::vector<std::vector<int32_t>> MakePrompts(int count, int64_t shortest, int64_t longest, int64_t vocab_size);

// Answers `max_tokens` tokens to every prompt, odd ones sampled at temperature 0.9, even ones greedily.
RunResult Answer(const engine::ModelFile& file, const Modes& modes, const Company& company,
                 const std::vector<std::vector<int32_t>>& prompts, int max_tokens, LogitsLedger& ledger);

}  // namespace nibble

#endif  // NIBBLE_TESTS_LAW1_LAW1_FIXTURE_H_
