// One generation, whatever its protocol: messages to a transport towards the client, a token sink towards the loop.
//
// Life: Begin (gRPC thread) -> admission (intake thread) -> tokens (loop thread) -> End -> OnDone. Every stream gets
// exactly one final status. Cancel, deadline, disconnect and stalled reader all become one ServingLoop::Cancel.
//
// Threads: the loop thread decodes and appends to the outbox, gRPC threads take from it. The transport is called
// without the mutex held, since it may react on the calling thread; `starting_write_`, `writing_` and `end_called_` say
// whose turn it is.
// Ownership: shared by the transport, which keeps it until its OnDone has returned, by the loop until the last choice's
// OnFinish, by the registry until OnDone.
#ifndef NIBBLE_SERVER_GENERATE_STREAM_H_
#define NIBBLE_SERVER_GENERATE_STREAM_H_

#include <grpcpp/support/byte_buffer.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "server/answer_transport.h"
#include "server/choice_text.h"
#include "server/generate_wire.h"
#include "server/outbox.h"
#include "server/request_timings.h"
#include "server/serving.h"

namespace nibble::server {

class GenerateStream final : public sched::TokenSink,
                             public WatchedStream,
                             public std::enable_shared_from_this<GenerateStream> {
 public:
  // `serving` must outlive the stream, `transport` its OnDone.
  GenerateStream(Serving* serving, std::unique_ptr<GenerateWire> wire, const Caller& caller, AnswerTransport* transport,
                 sched::Nanos deadline);

  // Once; never waits.
  void Begin(const grpc::ByteBuffer& request);

  // The transport; see there.
  void OnWritten(bool ok);
  void OnCancel();
  void OnDone();

  // The loop.
  Verdict OnToken(int index, int32_t token, const engine::Logprobs& logprobs) override;
  void OnPromptLogprobs(int64_t first, absl::Span<const engine::Logprobs> targets) override;
  void OnFinish(int index, const sched::Finish& finish) override;

  // The registry.
  void CancelIfNamed(const std::string& tenant, const absl::flat_hash_set<std::string>& request_ids) override;

 private:
  struct Choice {
    ChoiceText text;
    sched::Nanos last_token = 0;
    std::string stop_string = {};  // that matched
  };

  bool AbortIfStalled(sched::Nanos since) override;
  void ResetCall() override { transport_->Reset(); }
  // Intake thread.
  void Admit(const grpc::ByteBuffer& request);
  absl::StatusOr<AdmittedRequest> Translate(const grpc::ByteBuffer& request);
  // What can be refused unread: parsing and tokenizing would be for nothing.
  absl::Status CheckDoor() const;
  absl::Status CheckWanted() const;
  // The thread that loads adapters.
  void AdmitWithAdapter(AdmittedRequest& admitted);
  void Submit(AdmittedRequest& admitted);
  absl::Status HandToLoop(AdmittedRequest& admitted);
  // Makes the stream ready for the loop, which may call it before ServingLoop::Submit returns.
  void Prepare(AdmittedRequest& admitted);
  void Refuse(const absl::Status& status);
  bool IsCancelled() const;
  void RequestCancel(sched::CancelCause cause);
  void NoteToken(Choice& choice, sched::Nanos now);
  void EndChoice(const sched::Finish& finish, sched::Nanos now) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Discard() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  // Writes what waits, or ends the call, where it is time.
  void Pump();
  bool StartNextOperation();
  // The turn to write is over; `ok`: the message was taken.
  void NoteWritten(bool ok);

  Serving* const serving_;
  const Caller caller_;
  const std::unique_ptr<GenerateWire> wire_;  // Encode: by whose turn it is to write
  const sched::Nanos arrival_;
  const sched::Nanos deadline_;
  const int64_t pause_bytes_;

  std::shared_ptr<GenerateStream> held_by_loop_;
  MemoryBudget::Claim intake_claim_;           // until the request is parsed
  MemoryBudget::Claim prompt_logprobs_claim_;  // this and the next until the status is sent
  MemoryBudget::Claim grammar_claim_;

  // Set by Prepare; the loop thread's until the last OnFinish.
  std::vector<int32_t> prompt_;  // kept where prompt logprobs are wanted
  std::vector<std::string> stop_strings_;
  bool wants_logprobs_ = false;
  bool constrained_ = false;
  std::vector<Choice> choices_;
  AdapterLease adapter_;
  RequestTimings timings_;

  AnswerTransport* const transport_;
  grpc::ByteBuffer buffer_;  // of the write in flight

  mutable absl::Mutex mu_;
  Outbox outbox_ ABSL_GUARDED_BY(mu_);
  std::string request_id_ ABSL_GUARDED_BY(mu_);  // empty until proven
  bool submitted_ ABSL_GUARDED_BY(mu_) = false;
  int live_choices_ ABSL_GUARDED_BY(mu_) = 0;
  bool discarding_ ABSL_GUARDED_BY(mu_) = false;  // nobody will read what is appended
  bool starting_write_ ABSL_GUARDED_BY(mu_) = false;
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool end_called_ ABSL_GUARDED_BY(mu_) = false;
  sched::Nanos writing_since_ ABSL_GUARDED_BY(mu_) = 0;
  std::optional<sched::Nanos> paused_since_ ABSL_GUARDED_BY(mu_);
  bool stalled_ ABSL_GUARDED_BY(mu_) = false;
  std::optional<sched::CancelCause> cancel_cause_ ABSL_GUARDED_BY(mu_);
  sched::FinishReason worst_reason_ ABSL_GUARDED_BY(mu_) = sched::FinishReason::kStop;
  std::optional<grpc::Status> final_status_ ABSL_GUARDED_BY(mu_);
};

}  // namespace nibble::server

#endif  // NIBBLE_SERVER_GENERATE_STREAM_H_
