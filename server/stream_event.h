// What a stream tells its client, before any wire format.
#ifndef NIBBLE_SERVER_STREAM_EVENT_H_
#define NIBBLE_SERVER_STREAM_EVENT_H_

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "engine/engine.h"
#include "scheduler/request.h"

namespace nibble::server {

struct StartedEvent {
  std::string request_id;
  std::string model;
  uint64_t seed = 0;
  int64_t prompt_tokens = 0;
};

struct PromptLogprobsEvent {
  int64_t first = 0;
  std::vector<int32_t> ids;  // prompt tokens [first, first + ids.size())
  std::vector<engine::Logprobs> logprobs;
};

struct ChunkEvent {
  int index = 0;
  std::string text;
  std::vector<int32_t> ids;
  std::vector<engine::Logprobs> logprobs;  // one per id, or none at all
};

struct FinishedEvent {
  int index = 0;
  sched::FinishReason reason = sched::FinishReason::kStop;
  std::string stop_string;     // the one that matched, or empty
  int32_t stop_token_id = -1;  // the one that was drawn, or -1
  sched::Usage usage;
  sched::Nanos total_time = 0;  // arrival to now
};

using StreamEvent = std::variant<StartedEvent, PromptLogprobsEvent, ChunkEvent, FinishedEvent>;

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_STREAM_EVENT_H_
