#include "loadtest/verdict.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace nibble::loadtest {

absl::Status CheckClient(const Measurement& run, const Summary& summary) {
  constexpr double kMostLateMs = 10;
  constexpr double kMostCpuShare = 0.9;
  constexpr double kShortSeconds = 1;  // a run this short is mostly connecting
  if (summary.late_ms.p99 > kMostLateMs) {
    return absl::ResourceExhaustedError(absl::StrFormat(
        "this machine could not keep the schedule: 1 of 100 requests went out %.0f ms late or more, so the figures say "
        "nothing of the server",
        summary.late_ms.p99));
  }
  const double share = run.cpu_seconds / (run.seconds * static_cast<double>(run.cpus));
  if (run.seconds >= kShortSeconds && share > kMostCpuShare) {
    return absl::ResourceExhaustedError(absl::StrFormat(
        "nibble-loadtest itself used %.0f %% of the CPU time that it could use, so the figures say nothing of the "
        "server",
        100 * share));
  }
  return absl::OkStatus();
}

absl::Status Judge(const Measurement& run, const Summary& summary) {
  if (summary.failed == 0) return CheckClient(run, summary);
  const auto failed = std::find_if(run.records.begin(), run.records.end(),
                                   [](const Record& record) { return record.outcome == Outcome::kFailed; });
  return absl::UnknownError(absl::StrCat(summary.failed, " requests failed, the first with: ", failed->error));
}

}  // namespace nibble::loadtest
