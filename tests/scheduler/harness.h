// A scheduler on a fake engine, with a recording sink per request. Every step it checks the plan, every end it compares
// the answer with the undisturbed run.
#ifndef NIBBLE_TESTS_SCHEDULER_HARNESS_H_
#define NIBBLE_TESTS_SCHEDULER_HARNESS_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "scheduler/scheduler.h"
#include "tests/scheduler/fake_engine.h"

namespace nibble::sched {

// Records what one request is told, and CHECKs the order in which it is told.
class RecordingSink : public TokenSink {
 public:
  explicit RecordingSink(const Request& request)
      : request_(request), answers_(request.num_choices), finished_(request.num_choices) {}

  Verdict OnToken(int index, int32_t token, const engine::Logprobs& logprobs) override;
  void OnPromptLogprobs(int64_t first, absl::Span<const engine::Logprobs> targets) override;
  void OnFinish(int index, const Finish& finish) override;

  // The next token of any choice is answered with this.
  void AnswerNext(Verdict verdict) { next_verdict_ = verdict; }

  bool done() const { return num_finished_ == request_.num_choices; }
  int num_finished() const { return num_finished_; }
  const Finish& finish(int index = 0) const { return finished_[index]; }
  const std::vector<int32_t>& tokens(int index = 0) const { return answers_[index]; }
  int64_t num_prompt_logprobs() const { return prompt_logprobs_; }
  const Request& request() const { return request_; }

 private:
  void CheckAnswer(int index, const Finish& finish) const;

  const Request request_;
  std::vector<std::vector<int32_t>> answers_;
  std::vector<Finish> finished_;
  std::vector<bool> ended_ = std::vector<bool>(8, false);
  int num_finished_ = 0;
  int64_t prompt_logprobs_ = 0;
  Verdict next_verdict_ = Verdict::kContinue;
  bool stopped_ = false;  // a kStop was answered
};

struct RequestSpec {
  std::string id = "a";
  std::string tenant = "t";
  int64_t prompt = 1;
  std::string text = "";  // requests of one text have one prefix; the id where empty
  int32_t max_tokens = 1;
  int32_t priority = 0;
  int32_t num_choices = 1;
  Nanos deadline = kNoDeadline;
  int32_t prompt_logprobs = -1;
  TenantTerms terms = {};
};
Request MakeRequest(const RequestSpec& spec, Nanos arrival = 0);

constexpr Limits kSmallLimits = {
    .vocab_size = 64, .context_length = 512, .cache = {16}, .max_step_tokens = 64, .max_sequences = 8};
SchedulerOptions SmallOptions();

class Harness {
 public:
  explicit Harness(const SchedulerOptions& options = SmallOptions(), const Limits& limits = kSmallLimits);
  ~Harness();

  absl::Status SubmitRequest(const Request& request);
  absl::Status Submit(const RequestSpec& spec) { return SubmitRequest(MakeRequest(spec, now_)); }
  void Cancel(const std::string& id, CancelCause cause = CancelCause::kClient, const std::string& tenant = "t");
  void Resume(const std::string& id, const std::string& tenant = "t");

  // Plans, runs and commits one step and lets one nanosecond pass. Returns the plan as "a:32 b:1", choices of n > 1 as
  // "a/1:32"; empty where nothing could run.
  std::string Step();
  // Steps until nothing can run.
  void Drain();

  // The sink of the latest request of that id; lives on after its end.
  RecordingSink& sink(const std::string& id, const std::string& tenant = "t") { return *sinks_.at({tenant, id}); }
  bool Has(const std::pair<std::string, std::string>& tenant_and_id) const { return sinks_.contains(tenant_and_id); }
  // CHECKs that every choice that was ever submitted has ended.
  void CheckAllEnded() const;
  Scheduler& scheduler() { return scheduler_; }
  const Scheduler& scheduler() const { return scheduler_; }
  FakeEngine& engine() { return engine_; }
  Counters counters() const { return scheduler_.counters(); }
  Nanos now() const { return now_; }
  void Advance(Nanos by) { now_ += by; }

 private:
  const RecordingSink* Find(const std::string& id, const std::string& tenant) const;
  void CheckPlan(const engine::StepPlan& plan, const std::vector<SequenceView>& views) const;

  FakeEngine engine_;
  const SchedulerOptions options_;
  Scheduler scheduler_;
  std::map<std::pair<std::string, std::string>, std::unique_ptr<RecordingSink>> sinks_;  // by tenant and id
  Nanos now_ = 0;
};

}  // namespace nibble::sched

#endif  // NIBBLE_TESTS_SCHEDULER_HARNESS_H_
