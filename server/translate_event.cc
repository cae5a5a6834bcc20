#include <variant>

#include "server/translate.h"

namespace nibble::server {
namespace {

void ToMessage(const engine::Logprobs& from, int32_t id, v1::Logprobs* to) {
  to->mutable_token()->set_id(id);
  to->mutable_token()->set_logprob(from.logprob);
  for (const engine::TokenLogprob& entry : from.top) {
    v1::TokenLogprob* top = to->add_top();
    top->set_id(entry.id);
    top->set_logprob(entry.logprob);
  }
}

void Fill(const StartedEvent& event, v1::GenerateResponse* response) {
  v1::Started* started = response->mutable_started();
  started->set_request_id(event.request_id);
  started->set_model(event.model);
  started->set_seed(event.seed);
  started->set_prompt_tokens(event.prompt_tokens);
}

void Fill(const PromptLogprobsEvent& event, v1::GenerateResponse* response) {
  v1::PromptLogprobs* prompt = response->mutable_prompt_logprobs();
  prompt->set_first(event.first);
  for (size_t i = 0; i < event.ids.size(); ++i) ToMessage(event.logprobs[i], event.ids[i], prompt->add_tokens());
}

void Fill(const ChunkEvent& event, v1::GenerateResponse* response) {
  v1::Chunk* chunk = response->mutable_chunk();
  chunk->set_index(event.index);
  chunk->set_text(event.text);
  chunk->mutable_token_ids()->Add(event.ids.begin(), event.ids.end());
  for (size_t i = 0; i < event.logprobs.size(); ++i) ToMessage(event.logprobs[i], event.ids[i], chunk->add_logprobs());
}

v1::FinishReason ToMessage(sched::FinishReason reason) {
  switch (reason) {
    case sched::FinishReason::kStop:
      return v1::FINISH_REASON_STOP;
    case sched::FinishReason::kLength:
      return v1::FINISH_REASON_LENGTH;
    case sched::FinishReason::kCancelled:
      return v1::FINISH_REASON_CANCELLED;
    case sched::FinishReason::kDeadline:
      return v1::FINISH_REASON_DEADLINE;
    case sched::FinishReason::kError:
      return v1::FINISH_REASON_ERROR;
  }
  return v1::FINISH_REASON_UNSPECIFIED;
}

double ToSeconds(sched::Nanos nanos) { return static_cast<double>(nanos) * 1e-9; }

void Fill(const FinishedEvent& event, v1::GenerateResponse* response) {
  v1::Finished* finished = response->mutable_finished();
  finished->set_index(event.index);
  finished->set_reason(ToMessage(event.reason));
  if (!event.stop_string.empty()) finished->set_stop_string(event.stop_string);
  if (event.stop_token_id >= 0) finished->set_stop_token_id(event.stop_token_id);
  v1::Usage* usage = finished->mutable_usage();
  usage->set_prompt_tokens(event.usage.prompt_tokens);
  usage->set_cached_tokens(event.usage.cached_tokens);
  usage->set_generated_tokens(event.usage.generated_tokens);
  usage->set_queue_seconds(ToSeconds(event.usage.queue_time));
  usage->set_first_token_seconds(ToSeconds(event.usage.first_token_time));
  usage->set_total_seconds(ToSeconds(event.total_time));
}

}  // namespace

v1::GenerateResponse ToMessage(const StreamEvent& event) {
  v1::GenerateResponse response;
  std::visit([&response](const auto& e) { Fill(e, &response); }, event);
  return response;
}

}  // namespace nibble::server
