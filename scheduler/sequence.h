// A request and its choices while they live in the scheduler. Plain state; the scheduler's loop thread owns it.
#ifndef NIBBLE_SCHEDULER_SEQUENCE_H_
#define NIBBLE_SCHEDULER_SEQUENCE_H_

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/grammar/grammar.h"
#include "kvcache/cache.h"
#include "scheduler/fair_share.h"
#include "scheduler/request.h"

namespace nibble::sched {

enum class SequenceState {
  kHeld,     // a further choice of n > 1: starts when the first choice has computed the prompt, and shares its pages
  kWaiting,  // never started, or preempted
  kRunning,  // has a lease
  kFinished,
};

struct LiveRequest;

// One choice.
struct Sequence {
  LiveRequest* request = nullptr;
  int index = 0;
  SequenceState state = SequenceState::kHeld;
  bool paused = false;
  bool started = false;         // was running at least once
  bool preempted = false;       // is waiting after having run
  std::vector<int32_t> tokens;  // prompt, then generated; empty before the first start
  int64_t computed = 0;         // tokens whose K and V are in the lease's pages
  int64_t charged = 0;          // prompt tokens that were charged to the tenant, or were found in the index
  int64_t lost = 0;             // what `computed` was at the last preemption
  int64_t reported = 1;         // prompt tokens whose logprobs need no reporting any more; the first has none
  kv::Lease lease;
  engine::SampleRequest sample;
  std::unique_ptr<engine::grammar::Matcher> matcher;  // of the request's grammar, from the first step that samples on
  Usage usage;

  int64_t remaining() const { return static_cast<int64_t>(tokens.size()) - computed; }
  // Whether prompt logprobs are still owed.
  bool reporting() const;
  bool runnable() const { return state == SequenceState::kRunning && !paused; }
};

struct LiveRequest {
  Request request;
  TokenSink* sink = nullptr;
  FairAccount* account = nullptr;  // the tenant's
  uint64_t order = 0;              // of arrival
  bool started = false;
  std::string salt;                  // of the prefix index
  std::vector<int32_t> terminators;  // stop and end ids
  std::vector<Sequence> choices;
  int live_choices = 0;
  FinishReason worst = FinishReason::kStop;  // over the finished choices, in the order of the enum
};

// Key of the pages that requests of the same tenant, or pool of tenants, and adapter share.
std::string PrefixSalt(const std::string& cache_salt, const Request& request);

std::unique_ptr<LiveRequest> MakeLive(Request request, TokenSink* sink, uint64_t order, const std::string& cache_salt);

// Seed of choice `index`: the request's own for choice 0, else the SplitMix64 finalizer (Steele, Lea, Flood, "Fast
// splittable pseudorandom number generators", 2014) of seed + index * 0x9e3779b97f4a7c15.
uint64_t ChoiceSeed(uint64_t seed, int index);

// Whether `a` goes before `b` by age: the higher priority, then the earlier arrival, then the lower choice.
bool RanksBefore(const Sequence& a, const Sequence& b);
// Whether the next chunk of `a`'s prompt goes before the next of `b`'s: the higher priority, then the tenant that was
// given less, then the one that came later, which was lifted to the other and has been given nothing yet; then rank.
bool PrefillsBefore(const Sequence& a, const Sequence& b);
// Whether the tenant's terms let `sequence` run beside the tenant's running ones, whatever it finds in the index. One
// alone may always run. REQUIRES: the account's `running` is counted.
bool FitsTerms(const Sequence& sequence);

}  // namespace nibble::sched

#endif  // NIBBLE_SCHEDULER_SEQUENCE_H_
