#include "scheduler/sequence.h"

#include <tuple>
#include <utility>

namespace nibble::sched {

// Every part is preceded by its length, so no two lists of parts give the same string, and no pool is a tenant.
std::string PrefixSalt(const std::string& cache_salt, const Request& request) {
  const std::string& pool = request.terms.pool;
  std::string salt = pool.empty() ? "tenant" : "pool";
  for (const std::string* part : {&cache_salt, pool.empty() ? &request.tenant : &pool, &request.adapter_id}) {
    salt += std::to_string(part->size()) + ':' + *part;
  }
  return salt;
}

bool Sequence::reporting() const {
  return index == 0 && request->request.prompt_logprobs >= 0 &&
         reported < static_cast<int64_t>(request->request.prompt.size());
}

std::unique_ptr<LiveRequest> MakeLive(Request request, TokenSink* sink, uint64_t order, const std::string& cache_salt) {
  auto live = std::make_unique<LiveRequest>();
  live->request = std::move(request);
  live->sink = sink;
  live->order = order;
  live->salt = PrefixSalt(cache_salt, live->request);
  const Stopping& stopping = live->request.stopping;
  live->terminators = stopping.stop_token_ids;
  live->terminators.insert(live->terminators.end(), stopping.end_ids.begin(), stopping.end_ids.end());
  live->live_choices = live->request.num_choices;
  live->choices.resize(live->live_choices);
  for (int i = 0; i < live->live_choices; ++i) {
    Sequence& sequence = live->choices[i];
    sequence.request = live.get();
    sequence.index = i;
    sequence.usage.prompt_tokens = static_cast<int64_t>(live->request.prompt.size());
    sequence.sample.params = &live->request.sampling;
    sequence.sample.seed = ChoiceSeed(live->request.sampling.seed, i);
  }
  return live;
}

uint64_t ChoiceSeed(uint64_t seed, int index) {
  if (index == 0) return seed;
  uint64_t z = seed + static_cast<uint64_t>(index) * 0x9e3779b97f4a7c15;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
  z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
  return z ^ (z >> 31);
}

bool RanksBefore(const Sequence& a, const Sequence& b) {
  return std::make_tuple(-int64_t{a.request->request.priority}, a.request->order, a.index) <
         std::make_tuple(-int64_t{b.request->request.priority}, b.request->order, b.index);
}

bool PrefillsBefore(const Sequence& a, const Sequence& b) {
  if (a.request->request.priority != b.request->request.priority) return RanksBefore(a, b);
  const FairAccount& of_a = *a.request->account;
  const FairAccount& of_b = *b.request->account;
  if (of_a.served != of_b.served) return of_a.served < of_b.served;
  return of_a.joined != of_b.joined ? of_a.joined > of_b.joined : RanksBefore(a, b);
}

bool FitsTerms(const Sequence& sequence) {
  const Request& request = sequence.request->request;
  const FairAccount::Running& running = sequence.request->account->running;
  if (running.sequences == 0) return true;
  const size_t tokens = sequence.tokens.empty() ? request.prompt.size() : sequence.tokens.size();
  return running.sequences < request.terms.max_sequences &&
         running.pages + kv::PagesFor(static_cast<int64_t>(tokens)) <= request.terms.max_pages;
}

}  // namespace nibble::sched
