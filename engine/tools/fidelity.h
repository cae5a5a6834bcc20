// Sums up how well logits predict a text and how close they are to a reference's logits.
#ifndef NIBBLE_ENGINE_TOOLS_FIDELITY_H_
#define NIBBLE_ENGINE_TOOLS_FIDELITY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "engine/sampling/vocab_passes.h"
#include "engine/weights/sha256.h"

namespace nibble::engine {

class Fidelity {
 public:
  explicit Fidelity(int64_t vocab_size);

  // One position: its logits, the reference's at the same position (the same span where this is the reference), and the
  // token that follows.
  void Add(absl::Span<const float> logits, absl::Span<const float> reference, int32_t target);

  int64_t tokens() const { return tokens_; }
  double perplexity() const;
  // Mean over positions of KL(reference || these), in nats.
  double kl_divergence() const;
  // Share of positions where both have the same most likely token (ties: the lower id).
  double top1() const;
  // Of all logits added, in order, as little-endian floats: lower-case hex.
  std::string LogitsSha256() const { return sha256_.Hex(); }

 private:
  const VocabPasses& passes_;
  std::vector<float> weights_;
  Sha256 sha256_;
  double negative_log_likelihood_ = 0.0;
  double divergence_ = 0.0;
  int64_t same_top_ = 0;
  int64_t tokens_ = 0;
};

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_TOOLS_FIDELITY_H_
