// Runs the text-driven cases in cases/*.txt. Their words:
//   config KEY=N …           first line; keys: pages, step_tokens, sequences, watermark, queue, tenant_queue,
//   queue_tokens submit ID KEY=V …        keys: prompt (tokens), text (requests of one text share their prefix), max,
//   tenant,
//                            priority, n, deadline, logprobs. `submit … -> CODE words` must fail so.
//   step A:32 B:1            one step, which must plan exactly this, in order of arrival; `step -`: nothing to run
//   steps N                  N steps
//   drain                    steps until nothing can run
//   wait N                   lets N ns pass; a step takes 1
//   cancel ID, resume ID     (of tenant t)
//   pause ID, stop ID        what the request's sink answers to its next token
//   expect KEY=V …           keys: running, waiting, paused (ids), free, cached, held (pages), preemptions, recomputed,
//                            hits, prefilled (tokens) and, of tenant t, ID=REASON/TOKENS for what has ended
// After every line all invariants hold; every answer is compared with the undisturbed run.
#include <filesystem>
#include <fstream>
#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "gtest/gtest.h"
#include "tests/scheduler/harness.h"

namespace nibble::sched {
namespace {

using Words = std::vector<std::string>;
using Arguments = std::map<std::string, std::string>;

Arguments ParseArguments(const Words& words, size_t first) {
  Arguments arguments;
  for (size_t i = first; i < words.size(); ++i) {
    const std::pair<std::string, std::string> pair = absl::StrSplit(words[i], absl::MaxSplits('=', 1));
    arguments.insert(pair);
  }
  return arguments;
}

int64_t ToInt(const std::string& text) {
  int64_t value = 0;
  EXPECT_TRUE(absl::SimpleAtoi(text, &value)) << text;
  return value;
}

std::string ReasonName(FinishReason reason) {
  const std::vector<std::string> names = {"stop", "length", "cancelled", "deadline", "error"};
  return names[static_cast<size_t>(reason)];
}

class CaseRunner {
 public:
  void Run(const std::string& line) {
    const Words words = absl::StrSplit(line, ' ', absl::SkipEmpty());
    const std::string& verb = words[0];
    if (verb == "config") return Configure(ParseArguments(words, 1));
    if (harness_ == nullptr) Configure({});
    if (verb == "submit") return Submit(words);
    if (verb == "step") return ExpectStep(words.size() > 1 && words[1] != "-" ? Join(words) : "");
    if (verb == "steps") return Steps(ToInt(words[1]));
    if (verb == "drain") return harness_->Drain();
    if (verb == "wait") return harness_->Advance(ToInt(words[1]));
    if (verb == "cancel") return harness_->Cancel(words[1]);
    if (verb == "resume") return harness_->Resume(words[1]);
    if (verb == "pause") return harness_->sink(words[1]).AnswerNext(TokenSink::Verdict::kPause);
    if (verb == "stop") return harness_->sink(words[1]).AnswerNext(TokenSink::Verdict::kStop);
    if (verb == "expect") return Expect(ParseArguments(words, 1));
    ADD_FAILURE() << "unknown word " << verb;
  }

 private:
  static std::string Join(const Words& words) { return absl::StrJoin(words.begin() + 1, words.end(), " "); }

  void Configure(const Arguments& arguments) {
    SchedulerOptions options = SmallOptions();
    Limits limits = kSmallLimits;
    const std::map<std::string, int64_t*> keys = {{"pages", &limits.cache.num_pages},
                                                  {"step_tokens", &options.step_tokens},
                                                  {"sequences", &options.max_sequences},
                                                  {"watermark", &options.watermark_pages},
                                                  {"queue", &options.max_queue},
                                                  {"tenant_queue", &options.max_queue_per_tenant},
                                                  {"queue_tokens", &options.max_queue_tokens},
                                                  {"started", &options.max_started}};
    for (const auto& [key, value] : arguments) *keys.at(key) = ToInt(value);
    harness_ = std::make_unique<Harness>(options, limits);
  }

  void Submit(const Words& words) {
    const auto arrow = std::find(words.begin(), words.end(), "->");
    RequestSpec spec;
    spec.id = words[1];
    for (const auto& [key, value] : ParseArguments(Words(words.begin(), arrow), 2)) Set(spec, key, value);
    const absl::Status status = harness_->Submit(spec);
    if (arrow == words.end()) {
      EXPECT_TRUE(status.ok()) << status;
      return;
    }
    EXPECT_EQ(absl::StatusCodeToString(status.code()), *(arrow + 1)) << status;
    EXPECT_NE(status.message().find(absl::StrJoin(arrow + 2, words.end(), " ")), absl::string_view::npos) << status;
  }

  static void Set(RequestSpec& spec, const std::string& key, const std::string& value) {
    if (key == "text")
      spec.text = value;
    else if (key == "tenant")
      spec.tenant = value;
    else if (key == "prompt")
      spec.prompt = ToInt(value);
    else if (key == "max")
      spec.max_tokens = static_cast<int32_t>(ToInt(value));
    else if (key == "priority")
      spec.priority = static_cast<int32_t>(ToInt(value));
    else if (key == "n")
      spec.num_choices = static_cast<int32_t>(ToInt(value));
    else if (key == "deadline")
      spec.deadline = ToInt(value);
    else if (key == "logprobs")
      spec.prompt_logprobs = static_cast<int32_t>(ToInt(value));
    else
      ADD_FAILURE() << "unknown key " << key;
  }

  void ExpectStep(const std::string& plan) { EXPECT_EQ(harness_->Step(), plan); }

  void Steps(int64_t n) {
    for (int64_t i = 0; i < n; ++i) harness_->Step();
  }

  void Expect(const Arguments& arguments) {
    for (const auto& [key, value] : arguments) EXPECT_EQ(Observe(key), value) << key;
  }

  std::string Observe(const std::string& key) {
    const Counters counters = harness_->counters();
    const kv::CacheStats pages = harness_->scheduler().cache().stats();
    const std::map<std::string, int64_t> numbers = {{"free", pages.free},
                                                    {"cached", pages.idle},
                                                    {"held", pages.held},
                                                    {"preemptions", counters.preemptions},
                                                    {"recomputed", counters.recomputed_tokens},
                                                    {"hits", counters.prefix_hits_tokens},
                                                    {"prefilled", counters.step_tokens}};
    if (const auto found = numbers.find(key); found != numbers.end()) return absl::StrCat(found->second);
    if (key == "running" || key == "waiting" || key == "paused") return Ids(key);
    const RecordingSink& sink = harness_->sink(key);
    return sink.done() ? absl::StrCat(ReasonName(sink.finish().reason), "/", sink.tokens().size()) : "live";
  }

  std::string Ids(const std::string& what) {
    std::vector<std::string> ids;
    for (const SequenceView& view : harness_->scheduler().Sequences()) {
      const bool runs = view.state == SequenceState::kRunning;
      const std::string state = view.paused ? "paused" : runs ? "running" : "waiting";
      if (state == what) ids.push_back(view.index == 0 ? view.id : absl::StrCat(view.id, "/", view.index));
    }
    return absl::StrJoin(ids, ",");
  }

  std::unique_ptr<Harness> harness_;
};

class Cases : public testing::TestWithParam<std::string> {};

TEST_P(Cases, Run) {
  std::ifstream file(std::string(NIBBLE_TESTS_DIR) + "/scheduler/cases/" + GetParam() + ".txt");
  ASSERT_TRUE(file.is_open());
  CaseRunner runner;
  int number = 0;
  for (std::string line; std::getline(file, line);) {
    ++number;
    line = line.substr(0, line.find('#'));
    if (line.find_first_not_of(' ') == std::string::npos) continue;
    SCOPED_TRACE(absl::StrCat("line ", number, ": ", line));
    runner.Run(line);
  }
  EXPECT_GT(number, 0);
}

std::vector<std::string> CaseNames() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(std::string(NIBBLE_TESTS_DIR) + "/scheduler/cases")) {
    if (entry.path().extension() == ".txt") names.push_back(entry.path().stem());
  }
  std::sort(names.begin(), names.end());
  return names;
}

INSTANTIATE_TEST_SUITE_P(Text, Cases, testing::ValuesIn(CaseNames()),
                         [](const testing::TestParamInfo<std::string>& info) { return info.param; });

}  // namespace
}  // namespace nibble::sched
