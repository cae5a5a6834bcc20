// Proves every field of a request before anything is allocated, queued or shared for it.
#ifndef NIBBLE_SCHEDULER_VALIDATE_H_
#define NIBBLE_SCHEDULER_VALIDATE_H_

#include <cstdint>

#include "absl/status/status.h"
#include "scheduler/options.h"
#include "scheduler/request.h"

namespace nibble::sched {

// What sampling parameters may be, both ends included; top_p and the repetition penalty are above 0 besides.
struct Range {
  float low, high;
};
inline constexpr Range kTemperature{0.0f, 100.0f};
inline constexpr Range kTopP{0.0f, 1.0f};
inline constexpr Range kMinP{0.0f, 1.0f};
inline constexpr Range kRepetitionPenalty{0.0f, 2.0f};
inline constexpr Range kPresencePenalty{-2.0f, 2.0f};
inline constexpr Range kFrequencyPenalty{-2.0f, 2.0f};
inline constexpr Range kLogitBias{-100.0f, 100.0f};

inline constexpr int32_t kMaxChoices = 8;
inline constexpr int32_t kMaxLogprobs = 20;
inline constexpr int64_t kMaxLogitBias = 1024;
inline constexpr int64_t kMaxStopTokenIds = 1024;

// INVALID_ARGUMENT, the message beginning with the field's name. Pure; any thread.
absl::Status Validate(const Request& request, const Limits& limits);

}  // namespace nibble::sched

#endif  // NIBBLE_SCHEDULER_VALIDATE_H_
