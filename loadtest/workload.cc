#include "loadtest/workload.h"

#include <algorithm>
#include <random>

namespace nibble::loadtest {
namespace {

void Append(int64_t tokens, int64_t vocab_size, std::mt19937_64& random, std::vector<int32_t>& prompt) {
  const int64_t margin = vocab_size / 16;
  std::uniform_int_distribution<int32_t> id(margin, vocab_size - margin - 1);
  for (int64_t i = 0; i < tokens; ++i) prompt.push_back(id(random));
}

int64_t CancelAfter(double cancel_rate, int64_t output_tokens, std::mt19937_64& random) {
  if (!std::bernoulli_distribution(cancel_rate)(random)) return -1;
  return std::uniform_int_distribution<int64_t>(0, output_tokens - 1)(random);
}

// A stream of its own for everything that has a number.
std::mt19937_64 RandomOf(uint64_t seed, uint64_t number) {
  std::seed_seq words = {seed, seed >> 32, number, number >> 32};
  return std::mt19937_64(words);
}

}  // namespace

std::vector<Request> RandomRequests(const WorkloadOptions& options) { return SharedPrefixRequests(options, {}); }

std::vector<Request> SharedPrefixRequests(const WorkloadOptions& options, const SharedPrefixes& prefixes) {
  std::vector<std::vector<int32_t>> shared(prefixes.groups);
  for (int64_t group = 0; group < prefixes.groups; ++group) {
    std::mt19937_64 random = RandomOf(options.seed, group);
    Append(prefixes.tokens, options.vocab_size, random, shared[group]);
  }
  std::mt19937_64 random(options.seed);
  std::vector<Request> requests(options.requests);
  for (size_t i = 0; i < requests.size(); ++i) {
    requests[i].prompt = shared[i % shared.size()];
    Append(options.input_tokens.Draw(random), options.vocab_size, random, requests[i].prompt);
    requests[i].output_tokens = options.output_tokens.Draw(random);
    requests[i].cancel_after = CancelAfter(options.cancel_rate, requests[i].output_tokens, random);
  }
  return requests;
}

std::vector<Request> TraceRequests(const WorkloadOptions& options, const std::vector<TraceLine>& trace) {
  std::mt19937_64 random(options.seed);
  std::vector<Request> requests(options.requests);
  for (size_t i = 0; i < requests.size(); ++i) {
    const TraceLine& line = trace[i];
    std::vector<int32_t>& prompt = requests[i].prompt;
    for (const uint64_t id : line.hash_ids) {
      const int64_t left = line.input_tokens - static_cast<int64_t>(prompt.size());
      std::mt19937_64 of_block = RandomOf(options.seed, id);
      Append(std::min(kTraceBlockTokens, left), options.vocab_size, of_block, prompt);
    }
    Append(line.input_tokens - static_cast<int64_t>(prompt.size()), options.vocab_size, random, prompt);
    requests[i].output_tokens = line.output_tokens;
    requests[i].cancel_after = CancelAfter(options.cancel_rate, line.output_tokens, random);
  }
  return requests;
}

}  // namespace nibble::loadtest
