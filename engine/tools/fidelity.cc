#include "engine/tools/fidelity.h"

#include <cmath>

#include "engine/sampling/log_reference.h"

namespace nibble::engine {
namespace {

// weights = exp(logits - max); returns the natural log of the sum of exp(logits).
double LogSumExp(const VocabPasses& passes, absl::Span<const float> logits, float* weights, double* total) {
  const float max = passes.max(logits);
  passes.exponentials(logits, max, 1.0f, weights);
  *total = 0.0;
  for (size_t i = 0; i < logits.size(); ++i) *total += static_cast<double>(weights[i]);
  return static_cast<double>(max) + LogReference(*total);
}

}  // namespace

Fidelity::Fidelity(int64_t vocab_size)
    : passes_(VocabPassesFor(simd::SupportedIsas().back())), weights_(static_cast<size_t>(vocab_size)) {}

void Fidelity::Add(absl::Span<const float> logits, absl::Span<const float> reference, int32_t target) {
  double total = 0.0;
  const double log_sum = LogSumExp(passes_, logits, weights_.data(), &total);
  negative_log_likelihood_ += log_sum - static_cast<double>(logits[static_cast<size_t>(target)]);
  sha256_.Add(absl::MakeConstSpan(reinterpret_cast<const std::byte*>(logits.data()), logits.size() * sizeof(float)));
  ++tokens_;
  if (reference.data() == logits.data()) {
    ++same_top_;
    return;
  }
  const double reference_log_sum = LogSumExp(passes_, reference, weights_.data(), &total);
  // Sum of p (log p - log q), where log p - log q = (reference - logits) - (reference_log_sum - log_sum).
  double mean_difference = 0.0;
  for (size_t i = 0; i < logits.size(); ++i) {
    mean_difference += static_cast<double>(weights_[i]) * static_cast<double>(reference[i] - logits[i]);
  }
  divergence_ += mean_difference / total - (reference_log_sum - log_sum);
  const int64_t top = passes_.first_equal(logits, passes_.max(logits));
  if (top == passes_.first_equal(reference, passes_.max(reference))) ++same_top_;
}

double Fidelity::perplexity() const { return std::exp(negative_log_likelihood_ / static_cast<double>(tokens_)); }
double Fidelity::kl_divergence() const { return divergence_ / static_cast<double>(tokens_); }
double Fidelity::top1() const { return static_cast<double>(same_top_) / static_cast<double>(tokens_); }

}  // namespace nibble::engine
