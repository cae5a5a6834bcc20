// A seeded random walk of the scheduler on the fake engine: submits, cancels, pauses, resumes, stops, faults, deadlines
// and flushes, with every invariant checked at each step. A naive twin recounts, from what the requests were told, what
// admission must answer.
#ifndef NIBBLE_TESTS_SIM_WALK_H_
#define NIBBLE_TESTS_SIM_WALK_H_

#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "tests/scheduler/harness.h"

namespace nibble::sched {

class Walk {
 public:
  explicit Walk(uint32_t seed);

  void Step();
  // Lets everything end and CHECKs that nothing is left.
  void End();

  // Over all plans so far: equal for equal seeds.
  uint64_t trace() const { return trace_; }
  int64_t steps() const { return steps_; }

 private:
  using Key = std::pair<std::string, std::string>;  // tenant, id

  int64_t Draw(int64_t n) { return static_cast<int64_t>(random_() % static_cast<uint64_t>(n)); }
  static SchedulerOptions DrawOptions(std::mt19937& random);
  static Limits DrawLimits(std::mt19937& random);
  static std::vector<TenantTerms> DrawTerms(std::mt19937& random, const Limits& limits);
  Request DrawRequest();
  Key DrawKey();
  absl::StatusCode ExpectedAnswer(const Request& request);
  void Submit();
  void Run();
  void CheckTerms() const;

  std::mt19937 random_;
  const SchedulerOptions options_;
  const Limits limits_;
  const std::vector<TenantTerms> terms_;  // of tenants t0, t1, t2
  Harness harness_;
  int64_t submitted_ = 0;
  int64_t steps_ = 0;
  uint64_t trace_ = 0;
};

}  // namespace nibble::sched

#endif  // NIBBLE_TESTS_SIM_WALK_H_
