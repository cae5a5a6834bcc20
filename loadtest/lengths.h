// How long prompts and answers are.
#ifndef NIBBLE_LOADTEST_LENGTHS_H_
#define NIBBLE_LOADTEST_LENGTHS_H_

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace nibble::loadtest {

// A distribution of token counts, each 1 to kMost.
class Lengths {
 public:
  static constexpr int64_t kMost = 10'000'000;

  // "N"; "uniform:LOW:HIGH", both ends included; "lognormal:MEDIAN:SIGMA", SIGMA that of the logarithm, rounded and cut
  // to 1 .. kMost; "file:PATH", one length a line, drawn evenly. INVALID_ARGUMENT says what is wrong.
  static absl::StatusOr<Lengths> Parse(const std::string& text);
  static Lengths Exactly(int64_t tokens);

  int64_t Draw(std::mt19937_64& random) const;

 private:
  enum class Kind { kUniform, kLogNormal, kListed };

  static absl::StatusOr<Lengths> ParseUniform(const std::string& low, const std::string& high);
  static absl::StatusOr<Lengths> ParseLogNormal(const std::string& median, const std::string& sigma);
  static absl::StatusOr<Lengths> ReadListed(const std::string& path);

  Kind kind_ = Kind::kUniform;
  int64_t low_ = 1;
  int64_t high_ = 1;
  double log_median_ = 0;
  double sigma_ = 0;
  std::vector<int64_t> listed_;
};

}  // namespace nibble::loadtest

#endif  // NIBBLE_LOADTEST_LENGTHS_H_
