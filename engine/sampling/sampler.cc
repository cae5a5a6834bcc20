#include "engine/sampling/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "engine/grammar/grammar.h"
#include "engine/sampling/log_reference.h"
#include "engine/sampling/philox.h"
#include "kvcache/base/check.h"

namespace nibble::engine {
namespace {

constexpr float kMasked = -std::numeric_limits<float>::infinity();
constexpr float kGreedyBelow = 1e-5f;
constexpr float kExpUnderflow = 88.0f;  // exp(-x) is 0 from here on

// A penalty may push a logit past the largest float; two infinities would have no difference.
float Finite(float logit) {
  return std::clamp(logit, std::numeric_limits<float>::lowest(), std::numeric_limits<float>::max());
}

bool RanksBefore(const Candidate& a, const Candidate& b) {
  return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

double MassOf(const Candidate* first, const Candidate* last) {
  double mass = 0.0;
  for (; first != last; ++first) mass += static_cast<double>(first->weight);
  return mass;
}
double MassOf(const std::vector<Candidate>& all) { return MassOf(all.data(), all.data() + all.size()); }

// Drops what ranks after `last`; the order of the rest stays.
void KeepUpTo(const Candidate& last, std::vector<Candidate>* candidates) {
  const auto after = [&last](const Candidate& c) { return RanksBefore(last, c); };
  candidates->erase(std::remove_if(candidates->begin(), candidates->end(), after), candidates->end());
}

void KeepTop(size_t count, std::vector<Candidate>* candidates, std::vector<Candidate>* scratch) {
  if (candidates->size() <= count) return;
  *scratch = *candidates;
  const auto boundary = scratch->begin() + static_cast<int64_t>(count) - 1;
  std::nth_element(scratch->begin(), boundary, scratch->end(), RanksBefore);
  KeepUpTo(*boundary, candidates);
}

// Keeps the shortest ranking prefix whose mass reaches `mass`: a selection that halves, O(size) in all.
void KeepMass(double mass, std::vector<Candidate>* candidates, std::vector<Candidate>* scratch) {
  if (candidates->empty()) return;
  *scratch = *candidates;
  Candidate* first = scratch->data();
  Candidate* last = first + scratch->size();
  while (last - first > 1) {
    Candidate* middle = first + (last - first) / 2;
    std::nth_element(first, middle, last, RanksBefore);
    const double half = MassOf(first, middle);
    if (half >= mass) {
      last = middle;
    } else {
      mass -= half;
      first = middle;
    }
  }
  KeepUpTo(*first, candidates);
}

// The first index whose running sum of weights exceeds `target`; the last one with weight where rounding leaves none.
template <typename Weight>
int64_t Locate(int64_t size, double target, const Weight& weight) {
  double sum = 0.0;
  int64_t last = 0;
  for (int64_t i = 0; i < size; ++i) {
    const double w = weight(i);
    sum += w;
    if (sum > target) return i;
    if (w > 0.0) last = i;
  }
  return last;
}

// out[i] = logits[i] where bit i is set, else -infinity.
void MaskLogits(absl::Span<const float> logits, absl::Span<const uint64_t> bits, absl::Span<float> out) {
  for (size_t word = 0; word < bits.size(); ++word) {
    const size_t first = 64 * word, size = std::min<size_t>(64, logits.size() - first);
    if (bits[word] == 0) {
      std::fill_n(out.data() + first, size, kMasked);
      continue;
    }
    for (size_t i = 0; i < size; ++i) out[first + i] = (bits[word] >> i & 1) != 0 ? logits[first + i] : kMasked;
  }
}

}  // namespace

Sampler::Sampler(simd::Isa isa, int64_t vocab_size)
    : passes_(VocabPassesFor(isa)),
      counts_(static_cast<size_t>(vocab_size), 0),
      block_sums_(static_cast<size_t>((vocab_size + kVocabBlock - 1) / kVocabBlock)),
      block_(kVocabBlock) {}

int32_t Sampler::Sample(absl::Span<float> logits, const SampleRequest& request) {
  NIBBLE_CHECK(logits.size() == counts_.size());
  Adjust(logits, request);
  const double uniform = UniformDraw(request.seed, request.generated.size());
  const int32_t token =
      request.matcher == nullptr ? Draw(logits, *request.params, uniform) : SampleAllowed(logits, request, uniform);
  Restore(logits);
  return token;
}

int32_t Sampler::SampleAllowed(absl::Span<const float> logits, const SampleRequest& request, double uniform) {
  allowed_.resize((logits.size() + 63) / 64);
  if (!request.matcher->FillMask(request.terminators, absl::MakeSpan(allowed_))) return -1;
  for (const int32_t id : request.banned) allowed_[static_cast<size_t>(id) / 64] &= ~(uint64_t{1} << (id % 64));
  if (std::all_of(allowed_.begin(), allowed_.end(), [](uint64_t word) { return word == 0; })) return -1;
  masked_.resize(logits.size());
  MaskLogits(logits, allowed_, absl::MakeSpan(masked_));
  return Draw(masked_, *request.params, uniform);
}

Logprobs Sampler::LogprobsOf(absl::Span<const float> logits, int32_t id, int32_t top) {
  const float max = passes_.max(logits);
  const double log_total = LogReference(ExpTotal(logits, max, 1.0f));
  const auto logprob = [&](float logit) {
    return static_cast<float>(static_cast<double>(logit) - static_cast<double>(max) - log_total);
  };
  Logprobs result;
  result.logprob = logprob(logits[static_cast<size_t>(id)]);
  if (top == 0) return result;
  CollectTop(logits, max, 1.0f, static_cast<size_t>(top));
  KeepTop(static_cast<size_t>(top), &candidates_, &ranked_);
  std::sort(candidates_.begin(), candidates_.end(), RanksBefore);
  for (const Candidate& candidate : candidates_) result.top.push_back({candidate.id, logprob(candidate.logit)});
  return result;
}

float& Sampler::Change(absl::Span<float> logits, int32_t id) {
  float& logit = logits[static_cast<size_t>(id)];
  changed_.emplace_back(id, logit);
  return logit;
}

void Sampler::Restore(absl::Span<float> logits) {
  for (auto change = changed_.rbegin(); change != changed_.rend(); ++change) {
    logits[static_cast<size_t>(change->first)] = change->second;
  }
  changed_.clear();
}

void Sampler::Adjust(absl::Span<float> logits, const SampleRequest& request) {
  const SamplingParams& params = *request.params;
  if (params.repetition_penalty != 1.0f) Repeat(logits, request);
  if (params.presence_penalty != 0.0f || params.frequency_penalty != 0.0f) CountGenerated(logits, request);
  for (const auto& [id, bias] : params.logit_bias) {
    float& logit = Change(logits, id);
    logit = Finite(logit + bias);
  }
  for (const int32_t id : request.banned) Change(logits, id) = kMasked;
}

// Repetition penalty of CTRL (Keskar et al. 2019, section 4.1), made symmetric: every seen id loses.
void Sampler::Repeat(absl::Span<float> logits, const SampleRequest& request) {
  const float penalty = request.params->repetition_penalty;
  for (const absl::Span<const int32_t> ids : {request.prompt, request.generated}) {
    for (const int32_t id : ids) {
      if (counts_[static_cast<size_t>(id)]++ > 0) continue;
      float& logit = Change(logits, id);
      logit = Finite(logit > 0.0f ? logit / penalty : logit * penalty);
    }
  }
  for (const int32_t id : request.prompt) counts_[static_cast<size_t>(id)] = 0;
  for (const int32_t id : request.generated) counts_[static_cast<size_t>(id)] = 0;
}

void Sampler::CountGenerated(absl::Span<float> logits, const SampleRequest& request) {
  const SamplingParams& params = *request.params;
  for (const int32_t id : request.generated) ++counts_[static_cast<size_t>(id)];
  for (const int32_t id : request.generated) {
    int32_t& count = counts_[static_cast<size_t>(id)];
    if (count == 0) continue;
    float& logit = Change(logits, id);
    logit = Finite(logit - (params.frequency_penalty * static_cast<float>(count) + params.presence_penalty));
    count = 0;
  }
}

int32_t Sampler::Draw(absl::Span<const float> logits, const SamplingParams& params, double uniform) {
  const float max = passes_.max(logits);
  if (params.temperature < kGreedyBelow || max == kMasked) {
    return static_cast<int32_t>(passes_.first_equal(logits, max));
  }
  const bool filtered = params.min_p > 0.0f || params.top_p < 1.0f ||
                        (params.top_k > 0 && static_cast<size_t>(params.top_k) < logits.size());
  if (filtered) return DrawFromFiltered(logits, max, params, uniform);
  return DrawFromAll(logits, max, 1.0f / params.temperature, uniform);
}

double Sampler::ExpTotal(absl::Span<const float> logits, float max, float scale) {
  passes_.exp_sums(logits, max, scale, block_sums_.data());
  double total = 0.0;
  for (const float sum : block_sums_) total += static_cast<double>(sum);
  return total;
}

int32_t Sampler::DrawFromAll(absl::Span<const float> logits, float max, float scale, double uniform) {
  double target = uniform * ExpTotal(logits, max, scale);
  const int64_t block = Locate(static_cast<int64_t>(block_sums_.size()), target,
                               [this](int64_t i) { return static_cast<double>(block_sums_[static_cast<size_t>(i)]); });
  for (int64_t i = 0; i < block; ++i) target -= static_cast<double>(block_sums_[static_cast<size_t>(i)]);
  const absl::Span<const float> part = logits.subspan(static_cast<size_t>(block * kVocabBlock), kVocabBlock);
  passes_.exponentials(part, max, scale, block_.data());
  const int64_t within = Locate(static_cast<int64_t>(part.size()), target,
                                [this](int64_t i) { return static_cast<double>(block_[static_cast<size_t>(i)]); });
  return static_cast<int32_t>(block * kVocabBlock + within);
}

int32_t Sampler::DrawFromFiltered(absl::Span<const float> logits, float max, const SamplingParams& params,
                                  double uniform) {
  const float scale = 1.0f / params.temperature;
  const size_t top_k = params.top_k > 0 ? static_cast<size_t>(params.top_k) : logits.size();
  double total = 0.0;  // of what top-p takes its share of
  if (params.min_p > 0.0f) {
    CollectMinP(logits, max, scale, params.min_p);
  } else if (top_k < logits.size()) {
    CollectTop(logits, max, params.temperature, top_k);
  } else {
    total = ExpTotal(logits, max, scale);
    CollectMass(logits, max, scale, total * static_cast<double>(params.top_p));
  }
  KeepTop(top_k, &candidates_, &ranked_);
  SetWeights(max, scale);
  if (params.top_p < 1.0f) {
    if (total == 0.0) total = MassOf(candidates_);
    KeepMass(total * static_cast<double>(params.top_p), &candidates_, &ranked_);
  }
  const int64_t chosen =
      Locate(static_cast<int64_t>(candidates_.size()), uniform * MassOf(candidates_),
             [this](int64_t i) { return static_cast<double>(candidates_[static_cast<size_t>(i)].weight); });
  return candidates_[static_cast<size_t>(chosen)].id;
}

// At least `count` of the highest, and with each its equals. REQUIRES: count <= logits.size().
void Sampler::CollectTop(absl::Span<const float> logits, float max, float step, size_t count) {
  for (float depth = 4.0f * step; depth < 1e6f * step; depth *= 1.5f) {
    candidates_.clear();
    passes_.collect(logits, max - depth, &candidates_);
    if (candidates_.size() >= count) return;
  }
  candidates_.clear();
  passes_.collect(logits, kMasked, &candidates_);
}

// Those with weight >= min_p.
void Sampler::CollectMinP(absl::Span<const float> logits, float max, float scale, float min_p) {
  float depth = 1.0f;
  while (depth < kExpUnderflow && std::ldexp(1.0f, -static_cast<int>(depth)) > min_p) depth += 1.0f;  // 2^-d > e^-d
  candidates_.clear();
  // One more than needed, for the rounding of the threshold.
  passes_.collect(logits, max - (depth + 1.0f) / scale, &candidates_);
  SetWeights(max, scale);
  const auto below = [min_p](const Candidate& c) { return c.weight < min_p; };
  candidates_.erase(std::remove_if(candidates_.begin(), candidates_.end(), below), candidates_.end());
}

// The highest, together weighing at least `mass`, or all that weigh anything.
void Sampler::CollectMass(absl::Span<const float> logits, float max, float scale, double mass) {
  for (float depth = 2.0f; depth < 2.0f * kExpUnderflow; depth *= 1.5f) {
    candidates_.clear();
    passes_.collect(logits, max - depth / scale, &candidates_);
    SetWeights(max, scale);
    if (MassOf(candidates_) >= mass) return;
  }
}

void Sampler::SetWeights(float max, float scale) {
  for (size_t first = 0; first < candidates_.size(); first += kVocabBlock) {
    const size_t size = std::min<size_t>(kVocabBlock, candidates_.size() - first);
    for (size_t i = 0; i < size; ++i) block_[i] = candidates_[first + i].logit;
    passes_.exponentials(absl::MakeConstSpan(block_).first(size), max, scale, block_.data());
    for (size_t i = 0; i < size; ++i) candidates_[first + i].weight = block_[i];
  }
}

}  // namespace nibble::engine
