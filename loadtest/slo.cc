#include "loadtest/slo.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "loadtest/stats.h"

namespace nibble::loadtest {
namespace {

double* LimitOf(absl::string_view name, Slo& slo) {
  if (name == "ttft") return &slo.ttft_ms;
  if (name == "tpot") return &slo.tpot_ms;
  if (name == "e2el") return &slo.e2el_ms;
  return nullptr;
}

}  // namespace

absl::StatusOr<Slo> ParseSlo(const std::string& text) {
  Slo slo;
  for (const absl::string_view part : absl::StrSplit(text, ',')) {
    const std::pair<absl::string_view, absl::string_view> words = absl::StrSplit(part, absl::MaxSplits(':', 1));
    double* limit = LimitOf(words.first, slo);
    if (limit == nullptr) return absl::InvalidArgumentError(absl::StrCat("'", part, "' is not ttft:, tpot: or e2el:"));
    if (*limit != Slo::kNoLimit) return absl::InvalidArgumentError(absl::StrCat(words.first, " stands there twice"));
    absl::Duration duration;
    const bool reads = absl::ParseDuration(words.second, &duration);
    if (!reads || duration <= absl::ZeroDuration() || duration > absl::Hours(24)) {
      return absl::InvalidArgumentError(absl::StrCat("'", part, "' needs a duration above 0, such as 200ms or 2s"));
    }
    *limit = absl::ToDoubleMilliseconds(duration);
  }
  return slo;
}

bool Meets(const Record& record, const Slo& slo) {
  if (record.outcome != Outcome::kCompleted || record.chunks.empty()) return false;
  const Latency latency = LatencyOf(record);
  return latency.ttft_ms <= slo.ttft_ms && latency.tpot_ms.value_or(0) <= slo.tpot_ms && latency.e2el_ms <= slo.e2el_ms;
}

bool Misses(const Record& record, const Slo& slo) {
  const bool cut_short = record.outcome == Outcome::kCancelled || record.outcome == Outcome::kStalled;
  return !cut_short && !Meets(record, slo);
}

}  // namespace nibble::loadtest
