#include "scheduler/validate.h"

#include <cmath>
#include <functional>
#include <limits>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "scheduler/admission.h"
#include "tests/base/status_matchers.h"
#include "tests/scheduler/harness.h"

namespace nibble::sched {
namespace {

using testing::StartsWith;

using Change = std::function<void(Request&)>;

Request Good() { return MakeRequest({.prompt = 100, .max_tokens = 10}); }

absl::Status After(const Change& change) {
  Request request = Good();
  change(request);
  return Validate(request, kSmallLimits);
}

void ExpectRefused(const std::string& field, const Change& change) {
  EXPECT_THAT(After(change), StatusIs(absl::StatusCode::kInvalidArgument, StartsWith(field + ": ")));
}

void ExpectGood(const Change& change) { EXPECT_THAT(After(change), IsOk()); }

TEST(Validate, Row01_AnEmptyPromptIsRefused) {
  ExpectRefused("prompt", [](Request& r) { r.prompt.clear(); });
  ExpectGood([](Request& r) { r.prompt.resize(1); });
}

TEST(Validate, Row02_ChoicesAreOneToEight) {
  for (const int32_t n : {0, -1, 9, 1'000'000, std::numeric_limits<int32_t>::max()}) {
    ExpectRefused("n", [n](Request& r) { r.num_choices = n; });
  }
  ExpectGood([](Request& r) { r.num_choices = 8; });
}

TEST(Validate, Row03_SamplingNumbersAreFiniteAndInRange) {
  using Field = float engine::SamplingParams::*;
  struct Range {
    std::string name;
    Field field;
    float low;  // the smallest and the greatest good value
    float high;
  };
  const std::vector<Range> ranges = {{"temperature", &engine::SamplingParams::temperature, 0.0f, 100.0f},
                                     {"top_p", &engine::SamplingParams::top_p, 1e-38f, 1.0f},
                                     {"min_p", &engine::SamplingParams::min_p, 0.0f, 1.0f},
                                     {"repetition_penalty", &engine::SamplingParams::repetition_penalty, 1e-38f, 2.0f},
                                     {"presence_penalty", &engine::SamplingParams::presence_penalty, -2.0f, 2.0f},
                                     {"frequency_penalty", &engine::SamplingParams::frequency_penalty, -2.0f, 2.0f}};
  for (const Range& range : ranges) {
    const auto set = [&range](float value) { return [&range, value](Request& r) { r.sampling.*range.field = value; }; };
    for (const float bad : {NAN, INFINITY, -INFINITY, std::nextafter(range.high, 1000.0f), range.low - 1e-6f}) {
      ExpectRefused(range.name, set(bad));
    }
    ExpectGood(set(range.low));
    ExpectGood(set(range.high));
  }
  ExpectGood([](Request& r) { r.sampling.temperature = -0.0f; });
  ExpectGood([](Request& r) { r.sampling.temperature = 1e-38f; });
  ExpectRefused("top_p", [](Request& r) { r.sampling.top_p = 0.0f; });
  ExpectRefused("repetition_penalty", [](Request& r) { r.sampling.repetition_penalty = -0.0f; });
  ExpectRefused("top_k", [](Request& r) { r.sampling.top_k = -1; });
  ExpectRefused("logit_bias", [](Request& r) { r.sampling.logit_bias = {{1, NAN}}; });
}

TEST(Validate, Row05_TokenIdsAreInTheModelsVocabulary) {
  for (const int32_t id : {-1, 64, std::numeric_limits<int32_t>::max(), std::numeric_limits<int32_t>::min()}) {
    ExpectRefused("prompt", [id](Request& r) { r.prompt.back() = id; });
    ExpectRefused("logit_bias", [id](Request& r) { r.sampling.logit_bias = {{id, 1.0f}}; });
    ExpectRefused("stop_token_ids", [id](Request& r) { r.stopping.stop_token_ids = {3, id}; });
    ExpectRefused("end_ids", [id](Request& r) { r.stopping.end_ids = {id}; });
  }
  ExpectGood([](Request& r) { r.prompt.back() = 63; });
  ExpectRefused("logit_bias", [](Request& r) { r.sampling.logit_bias.resize(1025); });
  ExpectGood([](Request& r) { r.sampling.logit_bias.resize(1024); });
}

TEST(Validate, Row06_PromptAndNewTokensFitTheContext) {
  const int32_t most = std::numeric_limits<int32_t>::max();
  for (const int32_t max_tokens : {0, -1, 413, most, std::numeric_limits<int32_t>::min()}) {
    ExpectRefused("max_tokens", [max_tokens](Request& r) { r.stopping.max_tokens = max_tokens; });
  }
  ExpectGood([](Request& r) { r.stopping.max_tokens = 412; });
  ExpectRefused("min_tokens", [](Request& r) { r.stopping.min_tokens = -1; });
  ExpectRefused("min_tokens", [](Request& r) { r.stopping.min_tokens = 11; });
  // The sum of two numbers that fit 32 bits does not.
  Limits large = kSmallLimits;
  large.context_length = most;
  large.cache.num_pages = most / kv::kPageTokens + 1;
  Request request = Good();
  request.stopping.max_tokens = most;
  EXPECT_THAT(Validate(request, large), StatusIs(absl::StatusCode::kInvalidArgument, StartsWith("max_tokens")));
}

TEST(Validate, Row07_LogprobsAreAtMostTwenty) {
  for (const int32_t logprobs : {-2, 21, 64}) {
    ExpectRefused("logprobs", [logprobs](Request& r) { r.sampling.logprobs = logprobs; });
    ExpectRefused("prompt_logprobs", [logprobs](Request& r) { r.prompt_logprobs = logprobs; });
  }
  ExpectGood([](Request& r) { r.sampling.logprobs = r.prompt_logprobs = 20; });
}

TEST(Validate, Row15_ARequestThatCanNeverFitThePoolIsRefused) {
  Limits limits = kSmallLimits;
  limits.cache.num_pages = 4;
  Request request = Good();
  request.stopping.max_tokens = 28;
  EXPECT_THAT(Validate(request, limits), IsOk());
  request.stopping.max_tokens = 29;
  EXPECT_THAT(Validate(request, limits), StatusIs(absl::StatusCode::kInvalidArgument, StartsWith("max_tokens: ")));
}

}  // namespace
}  // namespace nibble::sched
