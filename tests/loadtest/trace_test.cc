#include "loadtest/trace.h"

#include <limits>
#include <sstream>

#include "gmock/gmock.h"
#include "tests/base/status_matchers.h"

namespace nibble::loadtest {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr double kInf = std::numeric_limits<double>::infinity();

absl::StatusOr<std::vector<TraceLine>> Parse(const std::string& text) {
  std::istringstream lines(text);
  return ParseTrace(lines, "t.jsonl");
}

TEST(Trace, ReadsWhatMooncakePublishes) {
  const auto trace = Parse(
      "{\"timestamp\": 27482, \"input_length\": 6955, \"output_length\": 52, \"hash_ids\": [46, 47]}\n\n"
      "{\"timestamp\": 30535.5, \"input_length\": 6, \"output_length\": 1, \"session\": \"x\"}\n");
  ASSERT_THAT(trace, IsOk());
  ASSERT_EQ(trace->size(), 2u);
  EXPECT_EQ((*trace)[0].timestamp_ms, 27482);
  EXPECT_EQ((*trace)[0].input_tokens, 6955);
  EXPECT_EQ((*trace)[0].output_tokens, 52);
  EXPECT_THAT((*trace)[0].hash_ids, ElementsAre(46, 47));
  EXPECT_THAT((*trace)[1].hash_ids, ElementsAre());
}

TEST(Trace, RefusalsNameFileLineAndKey) {
  const std::string good = "{\"timestamp\": 5, \"input_length\": 1, \"output_length\": 1}\n";
  const struct {
    const char* line;
    const char* named;
  } cases[] = {
      {"{", "JSON"},
      {"[]", "JSON"},
      {"{\"input_length\": 1, \"output_length\": 1}", "timestamp"},
      {"{\"timestamp\": \"1\", \"input_length\": 1, \"output_length\": 1}", "timestamp"},
      {"{\"timestamp\": 4, \"input_length\": 1, \"output_length\": 1}", "timestamp"},
      {"{\"timestamp\": 6, \"input_length\": 0, \"output_length\": 1}", "input_length"},
      {"{\"timestamp\": 6, \"input_length\": 1, \"output_length\": 1.5}", "output_length"},
      {"{\"timestamp\": 6, \"input_length\": 1, \"output_length\": 1, \"hash_ids\": [-1]}", "hash_ids"},
  };
  for (const auto& c : cases) {
    EXPECT_THAT(Parse(good + c.line + "\n"),
                StatusIs(absl::StatusCode::kInvalidArgument, AllOf(HasSubstr("t.jsonl:2"), HasSubstr(c.named))))
        << c.line;
  }
  EXPECT_THAT(Parse("\n"), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("t.jsonl")));
}

TEST(Trace, TimesAreKeptOrStretchedToARate) {
  const std::vector<TraceLine> trace = {{1000, 1, 1, {}}, {1500, 1, 1, {}}, {3000, 1, 1, {}}};
  EXPECT_THAT(TraceSeconds(trace, kInf), ElementsAre(0, 0.5, 2));
  EXPECT_THAT(TraceSeconds(trace, 4), ElementsAre(0, 0.125, 0.5));
}

}  // namespace
}  // namespace nibble::loadtest
