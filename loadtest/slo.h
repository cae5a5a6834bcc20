// A service level objective: what an answer's latencies must keep to.
#ifndef NIBBLE_LOADTEST_SLO_H_
#define NIBBLE_LOADTEST_SLO_H_

#include <limits>
#include <string>

#include "absl/status/statusor.h"
#include "loadtest/request.h"

namespace nibble::loadtest {

struct Slo {
  static constexpr double kNoLimit = std::numeric_limits<double>::infinity();
  double ttft_ms = kNoLimit;
  double tpot_ms = kNoLimit;
  double e2el_ms = kNoLimit;
};

// "ttft:200ms,tpot:50ms,e2el:2s", each at most once. INVALID_ARGUMENT says what is wrong.
absl::StatusOr<Slo> ParseSlo(const std::string& text);

// Whether the answer is whole and within all limits. An answer of one token has no TPOT.
bool Meets(const Record& record, const Slo& slo);

// Whether the server missed it: an answer that the client itself cut short neither meets nor misses it.
bool Misses(const Record& record, const Slo& slo);

}  // namespace nibble::loadtest

#endif  // NIBBLE_LOADTEST_SLO_H_
