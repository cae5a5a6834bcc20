// The part of an answer that the transport has not taken yet. Not thread-safe: its stream's mutex guards it.
//
// Tokens of one choice that wait side by side become one chunk, so a reader that falls behind gets fewer, larger
// messages.
#ifndef NIBBLE_SERVER_OUTBOX_H_
#define NIBBLE_SERVER_OUTBOX_H_

#include <cstdint>
#include <deque>
#include <string_view>

#include "server/stream_event.h"

namespace nibble::server {

class Outbox {
 public:
  void Push(StreamEvent event);
  // One token of choice `index`; `logprobs` null where the request asked for none.
  void PushToken(int index, std::string_view text, int32_t token, const engine::Logprobs* logprobs);
  // Text that was held back from earlier tokens.
  void PushText(int index, std::string_view text);
  // REQUIRES: !empty().
  StreamEvent Pop();
  void Clear();

  bool empty() const { return events_.empty(); }
  // About what the waiting events occupy in memory.
  int64_t bytes() const { return bytes_; }

 private:
  ChunkEvent& OpenChunk(int index);

  std::deque<StreamEvent> events_;
  int64_t bytes_ = 0;
};

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_OUTBOX_H_
