#include "loadtest/lengths.h"

#include <algorithm>
#include <cmath>
#include <fstream>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"

namespace nibble::loadtest {
namespace {

bool ReadTokens(absl::string_view text, int64_t* tokens) {
  return absl::SimpleAtoi(text, tokens) && *tokens >= 1 && *tokens <= Lengths::kMost;
}

}  // namespace

Lengths Lengths::Exactly(int64_t tokens) {
  Lengths lengths;
  lengths.low_ = lengths.high_ = tokens;
  return lengths;
}

absl::StatusOr<Lengths> Lengths::Parse(const std::string& text) {
  absl::string_view path = text;
  if (absl::ConsumePrefix(&path, "file:")) return ReadListed(std::string(path));
  const std::vector<std::string> words = absl::StrSplit(text, ':');
  if (words.size() == 1) return ParseUniform(words[0], words[0]);
  if (words.size() == 3 && words[0] == "uniform") return ParseUniform(words[1], words[2]);
  if (words.size() == 3 && words[0] == "lognormal") return ParseLogNormal(words[1], words[2]);
  return absl::InvalidArgumentError("must be N, uniform:LOW:HIGH, lognormal:MEDIAN:SIGMA or file:PATH");
}

absl::StatusOr<Lengths> Lengths::ParseUniform(const std::string& low, const std::string& high) {
  Lengths lengths;
  if (!ReadTokens(low, &lengths.low_) || !ReadTokens(high, &lengths.high_) || lengths.low_ > lengths.high_) {
    return absl::InvalidArgumentError("lengths must be 1 to 10000000, the lower one first");
  }
  return lengths;
}

absl::StatusOr<Lengths> Lengths::ParseLogNormal(const std::string& median, const std::string& sigma) {
  Lengths lengths;
  int64_t tokens = 0;
  const bool reads = ReadTokens(median, &tokens) && absl::SimpleAtod(sigma, &lengths.sigma_);
  if (!reads || !(lengths.sigma_ >= 0 && lengths.sigma_ <= 5)) {
    return absl::InvalidArgumentError("the median must be 1 to 10000000 and sigma 0 to 5");
  }
  lengths.kind_ = Kind::kLogNormal;
  lengths.log_median_ = std::log(static_cast<double>(tokens));
  return lengths;
}

absl::StatusOr<Lengths> Lengths::ReadListed(const std::string& path) {
  Lengths lengths;
  lengths.kind_ = Kind::kListed;
  std::ifstream file(path);
  std::string line;
  while (std::getline(file, line)) {
    int64_t tokens = 0;
    if (!ReadTokens(absl::StripAsciiWhitespace(line), &tokens)) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ":", lengths.listed_.size() + 1, ": must be an integer from 1 to 10000000"));
    }
    lengths.listed_.push_back(tokens);
  }
  if (lengths.listed_.empty()) return absl::InvalidArgumentError(absl::StrCat("no lengths in ", path));
  return lengths;
}

int64_t Lengths::Draw(std::mt19937_64& random) const {
  switch (kind_) {
    case Kind::kUniform:
      return std::uniform_int_distribution<int64_t>(low_, high_)(random);
    case Kind::kLogNormal: {
      const double tokens = std::lognormal_distribution<double>(log_median_, sigma_)(random);
      return std::llround(std::clamp(tokens, 1.0, static_cast<double>(kMost)));
    }
    case Kind::kListed:
      break;
  }
  return listed_[std::uniform_int_distribution<size_t>(0, listed_.size() - 1)(random)];
}

}  // namespace nibble::loadtest
