#include "server/outbox.h"

#include <utility>

#include "kvcache/base/check.h"

namespace nibble::server {
namespace {

// A chunk stops growing here, so that what one blocked write holds stays small beside the outbox.
constexpr size_t kChunkTokens = 64;

int64_t BytesOf(const engine::Logprobs& logprobs) {
  return static_cast<int64_t>(sizeof(logprobs) + logprobs.top.size() * sizeof(engine::TokenLogprob));
}

int64_t BytesOf(const std::vector<engine::Logprobs>& logprobs) {
  int64_t bytes = 0;
  for (const engine::Logprobs& entry : logprobs) bytes += BytesOf(entry);
  return bytes;
}

int64_t BytesOf(const StartedEvent& event) {
  return static_cast<int64_t>(event.request_id.size() + event.model.size());
}
int64_t BytesOf(const PromptLogprobsEvent& event) { return BytesOf(event.logprobs); }
int64_t BytesOf(const ChunkEvent& event) {
  return static_cast<int64_t>(event.text.size() + event.ids.size() * sizeof(int32_t)) + BytesOf(event.logprobs);
}
int64_t BytesOf(const FinishedEvent& event) { return static_cast<int64_t>(event.stop_string.size()); }

int64_t BytesOf(const StreamEvent& event) {
  return static_cast<int64_t>(sizeof(StreamEvent)) + std::visit([](const auto& e) { return BytesOf(e); }, event);
}

}  // namespace

void Outbox::Push(StreamEvent event) {
  bytes_ += BytesOf(event);
  events_.push_back(std::move(event));
}

void Outbox::PushToken(int index, std::string_view text, int32_t token, const engine::Logprobs* logprobs) {
  ChunkEvent& chunk = OpenChunk(index);
  chunk.text.append(text);
  chunk.ids.push_back(token);
  bytes_ += static_cast<int64_t>(text.size() + sizeof(token));
  if (logprobs == nullptr) return;
  chunk.logprobs.push_back(*logprobs);
  bytes_ += BytesOf(*logprobs);
}

void Outbox::PushText(int index, std::string_view text) {
  OpenChunk(index).text.append(text);
  bytes_ += static_cast<int64_t>(text.size());
}

ChunkEvent& Outbox::OpenChunk(int index) {
  if (!events_.empty()) {
    auto* last = std::get_if<ChunkEvent>(&events_.back());
    if (last != nullptr && last->index == index && last->ids.size() < kChunkTokens) return *last;
  }
  Push(ChunkEvent{.index = index, .text = {}, .ids = {}, .logprobs = {}});
  return std::get<ChunkEvent>(events_.back());
}

StreamEvent Outbox::Pop() {
  NIBBLE_CHECK(!events_.empty());
  bytes_ -= BytesOf(events_.front());
  StreamEvent event = std::move(events_.front());
  events_.pop_front();
  return event;
}

void Outbox::Clear() {
  events_.clear();
  bytes_ = 0;
}

}  // namespace nibble::server
