#include "loadtest/workload.h"

#include <algorithm>
#include <cmath>
#include <random>

#include "loadtest/random.h"

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

std::chrono::milliseconds ThinkTime(double mean_s, std::mt19937_64& random) {
  if (mean_s == 0) return std::chrono::milliseconds(0);
  return std::chrono::milliseconds(std::llround(1000 * std::exponential_distribution<double>(1 / mean_s)(random)));
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

std::vector<Request> ChatRequests(const WorkloadOptions& options, const Conversations& conversations) {
  std::vector<Request> requests(options.requests);
  size_t i = 0;
  for (uint64_t conversation = 0; i < requests.size(); ++conversation) {
    std::mt19937_64 random = RandomOf(options.seed, conversation);
    std::vector<int32_t> history;
    const size_t end = std::min(requests.size(), i + conversations.turns.Draw(random));
    for (const size_t first = i; i < end; ++i) {
      Request& request = requests[i];
      Append(options.input_tokens.Draw(random), options.vocab_size, random, history);
      request.prompt = history;
      request.output_tokens = options.output_tokens.Draw(random);
      request.cancel_after = CancelAfter(options.cancel_rate, request.output_tokens, random);
      Append(request.output_tokens, options.vocab_size, random, history);
      if (i == first) continue;
      request.follows = static_cast<int64_t>(i) - 1;
      request.think_time = ThinkTime(conversations.think_time_s, random);
    }
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
