#include "loadtest/steady_state.h"

#include <algorithm>
#include <vector>

#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"

namespace nibble::loadtest {

absl::StatusOr<Cut> ParseCut(const std::string& text) {
  const std::vector<absl::string_view> words = absl::StrSplit(text, ':');
  absl::Duration warmup, cooldown;
  if (words.size() != 2 || !absl::ParseDuration(words[0], &warmup) || !absl::ParseDuration(words[1], &cooldown)) {
    return absl::InvalidArgumentError("must be two durations, such as 10s:5s");
  }
  const auto fits = [](absl::Duration d) { return d >= absl::ZeroDuration() && d <= absl::Hours(24); };
  if (!fits(warmup) || !fits(cooldown)) return absl::InvalidArgumentError("durations must be 0 to 24h");
  return Cut{absl::ToDoubleSeconds(warmup), absl::ToDoubleSeconds(cooldown)};
}

Window SteadyWindow(const Measurement& run, const Cut& cut) {
  Clock::time_point last = run.start;
  for (const Record& record : run.records) last = std::max(last, record.scheduled);
  const auto ticks = [](double seconds) {
    return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  };
  return {run.start + ticks(cut.warmup_s), last - ticks(cut.cooldown_s)};
}

}  // namespace nibble::loadtest
