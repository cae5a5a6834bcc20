// The hard limits of the daemon, as values.
#ifndef NIBBLE_SERVER_LIMITS_H_
#define NIBBLE_SERVER_LIMITS_H_

#include <cstdint>

#include "absl/time/time.h"

namespace nibble::server {

struct Limits {
  // Transport.
  int message_bytes = 1 << 20;
  int metadata_bytes = 16 << 10;      // what a call may bring, as it is found by the gate
  int header_block_bytes = 64 << 10;  // told to clients; gRPC 1.51 holds single frames against it
  int64_t connections = 1024;
  int streams_per_connection = 100;
  absl::Duration handshake_timeout = absl::Seconds(10);
  absl::Duration keepalive_time = absl::Seconds(30);
  absl::Duration keepalive_timeout = absl::Seconds(10);
  absl::Duration least_ping_interval = absl::Seconds(10);  // of a client that receives nothing
  int64_t open_files = 16384;  // RLIMIT_NOFILE is raised to this, or to the hard limit below it

  // Fields of a request.
  int64_t request_id_bytes = 128;
  int64_t choices = 8;
  int64_t logprobs = 20;
  int64_t stop_strings = 16;
  int64_t stop_string_bytes = 256;
  int64_t stop_token_ids = 128;
  int64_t logit_bias = 1024;
  int64_t priority = 100;  // of either sign
  int64_t chat_messages = 1024;

  // Memory and time that one client may hold.
  int64_t outbox_bytes = 256 << 10;            // answer not yet written, per stream
  int64_t prompt_logprobs_bytes = 64ll << 20;  // charged at admission, all streams together
  int64_t grammar_bytes = 256ll << 20;         // compiled, of live requests; each counts its own
  int64_t intake_queue = 1024;                 // requests whose prompt is not tokenized yet
  int64_t intake_bytes = 64ll << 20;           // of those, as received
  int64_t kv_event_subscribers = 16;
  int64_t kv_events_queued = 1 << 14;                // not yet sent to one subscriber
  absl::Duration stall_timeout = absl::Seconds(30);  // a stream whose reader takes nothing for so long is aborted
};

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_LIMITS_H_
