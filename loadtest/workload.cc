#include "loadtest/workload.h"

#include <random>

namespace nibble::loadtest {
namespace {

std::vector<int32_t> RandomPrompt(const RandomWorkload& workload, std::mt19937_64& random) {
  const int64_t margin = workload.vocab_size / 16;
  std::uniform_int_distribution<int32_t> id(margin, workload.vocab_size - margin - 1);
  std::vector<int32_t> prompt(workload.input_tokens);
  for (int32_t& token : prompt) token = id(random);
  return prompt;
}

int64_t CancelAfter(const RandomWorkload& workload, std::mt19937_64& random) {
  if (!std::bernoulli_distribution(workload.cancel_rate)(random)) return -1;
  return std::uniform_int_distribution<int64_t>(0, workload.output_tokens - 1)(random);
}

}  // namespace

std::vector<Request> MakeRequests(const RandomWorkload& workload) {
  std::mt19937_64 random(workload.seed);
  std::vector<Request> requests(workload.requests);
  for (Request& request : requests) {
    request.prompt = RandomPrompt(workload, random);
    request.output_tokens = workload.output_tokens;
    request.cancel_after = CancelAfter(workload, random);
  }
  return requests;
}

}  // namespace nibble::loadtest
