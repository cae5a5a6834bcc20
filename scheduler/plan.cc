// Plan: deadlines, then pages for those who run, then starts, then tokens under the budget.
#include <algorithm>

#include "absl/container/flat_hash_map.h"
#include "kvcache/base/check.h"
#include "scheduler/scheduler.h"

namespace nibble::sched {

const engine::StepPlan& Scheduler::Plan(Nanos now) {
  NIBBLE_CHECK(rows_.empty());
  plan_.sequences.clear();
  ExpireDeadlines(now);
  if (GrowRunning()) StartWaiting(now);
  FillPlan();
  return plan_;
}

void Scheduler::ExpireDeadlines(Nanos now) {
  while (next_deadline() <= now) {
    CancelRequest(*live_.at(deadlines_.begin()->second), CancelCause::kDeadline);
  }
}

// False where the pool had no page and somebody had to be preempted: then nothing starts in this step.
bool Scheduler::GrowRunning() {
  bool enough = true;
  const std::vector<Sequence*> by_rank = running_;
  for (Sequence* sequence : by_rank) {
    while (sequence->runnable()) {
      Sequence* victim = VictimOfTerms(*sequence);
      if (victim == nullptr) break;
      Preempt(*victim);
    }
    while (sequence->runnable() && !cache_.Grow(sequence->lease, static_cast<int64_t>(sequence->tokens.size()))) {
      NIBBLE_CHECK(running_.size() > 1);
      Preempt(VictimOfGrowth());
      enough = false;
    }
  }
  return enough;
}

// A paused one if there is one, else the last in rank, which may be the one that wants to grow. Never the first in
// rank, as long as others run.
Sequence& Scheduler::VictimOfGrowth() const {
  for (auto sequence = running_.rbegin(); sequence != running_.rend(); ++sequence) {
    if ((*sequence)->paused) return **sequence;
  }
  return *running_.back();
}

// A start takes pages from paused sequences and from lower priorities only.
bool Scheduler::YieldsTo(const Sequence& victim, const Sequence& sequence) {
  return victim.paused || victim.request->request.priority < sequence.request->request.priority;
}

// Pages that a start of `sequence` could have, less those that the others need to grow. Shared pages count where all
// who hold them would yield.
int64_t Scheduler::ObtainablePages(const Sequence& sequence) const {
  int64_t pages = cache_.available();
  bool all_yield = true;
  absl::flat_hash_map<kv::PageId, int32_t> yielded;
  for (const Sequence* victim : running_) {
    if (!YieldsTo(*victim, sequence)) {
      all_yield = false;
      continue;
    }
    for (const kv::PageId page : victim->lease.pages()) pages += ++yielded[page] == cache_.holders(page);
  }
  return all_yield ? pages : pages - options_.watermark_pages;
}

void Scheduler::Preempt(Sequence& sequence) {
  ++counters_.preemptions;
  running_.erase(std::find(running_.begin(), running_.end(), &sequence));
  sequence.lease = kv::Lease();
  sequence.lost = sequence.computed;
  sequence.computed = 0;
  sequence.preempted = true;
  sequence.state = SequenceState::kWaiting;
  waiting_.Push(sequence);
}

// Starts as many as the step has tokens and places for.
void Scheduler::StartWaiting(Nanos now) {
  for (;;) {
    CountRunning();
    Sequence* next = waiting_.Next();
    if (next == nullptr || !HasRoomFor(*next) || !TryStart(*next, now)) return;
  }
}

// Whether the decodes and the prompts that go first leave anything of the step to `sequence`.
bool Scheduler::HasRoomFor(const Sequence& sequence) const {
  int64_t tokens = 0;
  int64_t sequences = 0;
  for (const Sequence* other : running_) {
    if (!other->runnable()) continue;
    ++sequences;
    if (other->remaining() == 1 || PrefillsBefore(*other, sequence)) tokens += other->remaining();
  }
  return tokens < options_.step_tokens && sequences < options_.max_sequences;
}

bool Scheduler::TryStart(Sequence& sequence, Nanos now) {
  const int64_t most = ObtainablePages(sequence);
  if (shortage_.sequence == &sequence && most <= shortage_.pages) return false;
  if (!MakeRoomForLease(sequence)) {
    shortage_ = {&sequence, most};
    return false;
  }
  if (sequence.tokens.empty()) sequence.tokens = sequence.request->request.prompt;
  // Positions whose prompt logprobs are owed have to be computed even if their pages are at hand.
  const absl::Span<const int32_t> tokens = sequence.tokens;
  kv::Lease lease =
      cache_.Open(sequence.request->salt, sequence.reporting() ? tokens.first(sequence.reported) : tokens);
  const int64_t need = kv::PagesFor(static_cast<int64_t>(tokens.size())) - static_cast<int64_t>(lease.pages().size());
  if (ObtainablePages(sequence) < need) {
    shortage_ = {&sequence, most};
    return false;
  }
  while (cache_.available() < need + (running_.empty() ? 0 : options_.watermark_pages)) Preempt(VictimOfGrowth());
  const bool grown = cache_.Grow(lease, static_cast<int64_t>(tokens.size()));
  NIBBLE_CHECK(grown);
  sequence.lease = std::move(lease);
  sequence.computed = sequence.lease.cached_tokens();
  sequence.charged = std::max(sequence.charged, sequence.computed);
  if (!sequence.started) NoteFirstStart(sequence, now);
  counters_.recomputed_tokens += std::max<int64_t>(0, sequence.lost - sequence.computed);
  Run(sequence);
  return true;
}

// The cache has raw slots for so many leases and no more.
bool Scheduler::MakeRoomForLease(const Sequence& sequence) {
  if (cache_.num_leases() < cache_.max_leases()) return true;
  Sequence& victim = VictimOfGrowth();
  if (!YieldsTo(victim, sequence)) return false;
  Preempt(victim);
  return true;
}

void Scheduler::NoteFirstStart(Sequence& sequence, Nanos now) {
  LiveRequest& live = *sequence.request;
  const Request& request = live.request;
  sequence.started = true;
  sequence.usage.queue_time = now - request.arrival;
  // Who shares a pool must not learn what its other tenants asked.
  if (request.terms.pool.empty()) sequence.usage.cached_tokens = sequence.lease.cached_tokens();
  if (!sequence.reporting()) {
    counters_.prefix_queries_tokens += sequence.usage.prompt_tokens;
    counters_.prefix_hits_tokens += sequence.lease.cached_tokens();
  }
  if (live.started) return;
  live.started = true;
  counters_.prompt_tokens += sequence.usage.prompt_tokens;
  admission_.Started(request);
}

void Scheduler::Run(Sequence& sequence) {
  waiting_.Remove(sequence);
  shortage_ = {};
  sequence.lost = 0;
  sequence.preempted = false;
  sequence.state = SequenceState::kRunning;
  const auto by_rank = [](const Sequence* a, const Sequence* b) { return RanksBefore(*a, *b); };
  running_.insert(std::upper_bound(running_.begin(), running_.end(), &sequence, by_rank), &sequence);
}

// Decodes, then chunks of prompts; each chunk is charged before the next is chosen.
void Scheduler::FillPlan() {
  int64_t budget = options_.step_tokens;
  std::vector<Sequence*> prompts;
  for (Sequence* sequence : running_) {
    if (!sequence->runnable()) continue;
    if (sequence->remaining() > 1) {
      prompts.push_back(sequence);
    } else if (!AddNext(*sequence, budget)) {
      return;
    }
  }
  while (!prompts.empty()) {
    const auto next = std::min_element(prompts.begin(), prompts.end(),
                                       [](const Sequence* a, const Sequence* b) { return PrefillsBefore(*a, *b); });
    if (!AddNext(**next, budget)) return;
    prompts.erase(next);
  }
}

// False: the step is full.
bool Scheduler::AddNext(Sequence& sequence, int64_t& budget) {
  if (budget == 0 || static_cast<int64_t>(rows_.size()) == options_.max_sequences) return false;
  const int64_t num_tokens = WithRawSlots(sequence, ChunkSize(sequence, budget));
  AddRow(sequence, num_tokens);
  budget -= num_tokens;
  return true;
}

int64_t Scheduler::ChunkSize(const Sequence& sequence, int64_t budget) const {
  const int64_t most = std::min(budget, sequence.remaining());
  if (sequence.reporting()) {
    const int64_t first = sequence.reported - 1;  // its logits tell about the first token not yet reported
    if (sequence.computed < first) return std::min(most, first - sequence.computed);
    // The prompt's last token has no successor to report; it runs in a step of its own, which samples.
    return std::min({most, options_.prompt_logprob_rows, sequence.remaining() - 1});
  }
  if (most == sequence.remaining()) return most;
  const int64_t end = (sequence.computed + most) / kv::kPageTokens * kv::kPageTokens;
  return end > sequence.computed ? end - sequence.computed : most;
}

// Where raw slots are short, a chunk ends with the page that it begins in.
int64_t Scheduler::WithRawSlots(Sequence& sequence, int64_t num_tokens) {
  const int64_t first = sequence.computed;
  if (cache_.GrowRaw(sequence.lease, first, first + num_tokens)) return num_tokens;
  num_tokens = std::min(num_tokens, kv::kPageTokens - first % kv::kPageTokens);
  const bool grown = cache_.GrowRaw(sequence.lease, first, first + num_tokens);
  NIBBLE_CHECK(grown);
  return num_tokens;
}

void Scheduler::AddRow(Sequence& sequence, int64_t num_tokens) {
  const LiveRequest& live = *sequence.request;
  const Request& request = live.request;
  const absl::Span<const int32_t> tokens = sequence.tokens;
  engine::SequenceStep step;
  step.tokens = tokens.subspan(sequence.computed, num_tokens);
  step.position = sequence.computed;
  step.adapter = request.adapter.get();
  step.pages = sequence.lease.pages();
  step.raw_slots = sequence.lease.raw_slots();
  const bool samples = num_tokens == sequence.remaining();
  if (samples) {
    const int64_t generated = static_cast<int64_t>(tokens.size() - request.prompt.size());
    sequence.sample.prompt = request.prompt;
    sequence.sample.generated = tokens.subspan(request.prompt.size());
    sequence.sample.banned = {};
    sequence.sample.terminators = live.terminators;
    if (request.grammar != nullptr && sequence.matcher == nullptr) {
      sequence.matcher = std::make_unique<engine::grammar::Matcher>(request.grammar);
      sequence.sample.matcher = sequence.matcher.get();
    }
    if (generated < request.stopping.min_tokens) sequence.sample.banned = live.terminators;
    step.logit_rows = 1;
    step.sample = &sequence.sample;
  } else if (sequence.reporting() && sequence.computed == sequence.reported - 1) {
    step.logit_rows = num_tokens;
    step.targets = tokens.subspan(sequence.reported, num_tokens);
    step.prompt_logprobs_top = request.prompt_logprobs;
  }
  Charge(sequence, num_tokens, samples);
  plan_.sequences.push_back(step);
  rows_.push_back({&sequence, num_tokens, samples});
}

}  // namespace nibble::sched
