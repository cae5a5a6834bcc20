#include "server/generate_stream.h"

#include <algorithm>
#include <utility>

#include "engine/grammar/grammar.h"
#include "kvcache/base/status_macros.h"
#include "scheduler/admission.h"
#include "server/wire.h"

namespace nibble::server {
namespace {

grpc::Status CancelStatus(sched::CancelCause cause) {
  switch (cause) {
    case sched::CancelCause::kClient:
      return grpc::Status(grpc::StatusCode::CANCELLED, "cancelled");
    case sched::CancelCause::kDeadline:
      return grpc::Status(grpc::StatusCode::DEADLINE_EXCEEDED, "deadline exceeded");
    case sched::CancelCause::kSlowReader:
      return grpc::Status(grpc::StatusCode::ABORTED, "slow_reader: the answer was not read");
    case sched::CancelCause::kDrain:
      break;
  }
  return grpc::Status(grpc::StatusCode::UNAVAILABLE, "the server stops");
}

grpc::Status StatusOf(sched::FinishReason worst, sched::CancelCause cause) {
  switch (worst) {
    case sched::FinishReason::kStop:
    case sched::FinishReason::kLength:
      return grpc::Status::OK;
    case sched::FinishReason::kCancelled:
      return CancelStatus(cause);
    case sched::FinishReason::kDeadline:
      return CancelStatus(sched::CancelCause::kDeadline);
    case sched::FinishReason::kError:
      break;
  }
  return grpc::Status(grpc::StatusCode::INTERNAL, "a fault in the computation ended the request");
}

int64_t GrammarBytes(const sched::Request& request) {
  return request.grammar == nullptr ? 0 : static_cast<int64_t>(request.grammar->bytes());
}

}  // namespace

GenerateStream::GenerateStream(Serving* serving, std::unique_ptr<GenerateWire> wire, const Caller& caller,
                               AnswerTransport* transport, sched::Nanos deadline)
    : WatchedStream(serving->limits.stall_timeout),
      serving_(serving),
      caller_(caller),
      wire_(std::move(wire)),
      arrival_(serving->clock()),
      deadline_(deadline),
      pause_bytes_(serving->limits.outbox_bytes * 3 / 4),
      transport_(transport) {
  timings_.arrival = arrival_;
}

void GenerateStream::Begin(const grpc::ByteBuffer& request) {
  serving_->streams->Add(shared_from_this());
  if (const absl::Status status = CheckDoor(); !status.ok()) return Refuse(status);
  const auto bytes = static_cast<int64_t>(request.Length());
  if (!serving_->intake_budget->TryClaim(bytes, &intake_claim_) ||
      !serving_->intake->TryPush(caller_.tenant, [self = shared_from_this(), request] { self->Admit(request); })) {
    Refuse(absl::ResourceExhaustedError("queue full: too many requests await admission"));
  }
}

void GenerateStream::Admit(const grpc::ByteBuffer& request) {
  absl::StatusOr<AdmittedRequest> admitted = Translate(request);
  if (!admitted.ok()) return Refuse(admitted.status());
  const bool loaded = admitted->adapter.empty() || admitted->adapter_lease.version() != nullptr;
  if (loaded) return Submit(*admitted);
  auto waiting = std::make_shared<AdmittedRequest>(*std::move(admitted));
  const auto load = [self = shared_from_this(), waiting] { self->AdmitWithAdapter(*waiting); };
  if (!serving_->adapter_loads->TryPush(caller_.tenant, load)) {
    Refuse(absl::ResourceExhaustedError("adapter: too many requests await adapters that are not loaded"));
  }
}

void GenerateStream::AdmitWithAdapter(AdmittedRequest& admitted) {
  if (const absl::Status status = CheckWanted(); !status.ok()) return Refuse(status);
  absl::StatusOr<AdapterLease> lease = serving_->model->adapters->Acquire(admitted.adapter);
  if (!lease.ok()) return Refuse(lease.status());
  admitted.adapter_lease = *std::move(lease);
  Submit(admitted);
}

void GenerateStream::Submit(AdmittedRequest& admitted) {
  if (const absl::Status status = HandToLoop(admitted); !status.ok()) return Refuse(status);
  std::optional<sched::CancelCause> cause;
  {
    absl::MutexLock lock(&mu_);
    submitted_ = true;
    cause = cancel_cause_;
  }
  // OnCancel may have come before there was anything to cancel.
  if (cause.has_value()) RequestCancel(*cause);
  Pump();
}

absl::Status GenerateStream::CheckDoor() const {
  if (serving_->draining) return absl::UnavailableError("the server drains");
  if (!serving_->has_memory()) return absl::ResourceExhaustedError("no memory is left for new requests");
  return serving_->loop->CheckRoom(caller_.tenant, caller_.terms);
}

absl::Status GenerateStream::CheckWanted() const {
  if (IsCancelled()) return absl::CancelledError("cancelled before admission");
  if (serving_->clock() >= deadline_) return absl::DeadlineExceededError("deadline exceeded before admission");
  return CheckDoor();
}

absl::StatusOr<AdmittedRequest> GenerateStream::Translate(const grpc::ByteBuffer& request) {
  NIBBLE_RETURN_IF_ERROR(CheckWanted());
  NIBBLE_ASSIGN_OR_RETURN(AdmittedRequest admitted, wire_->Admit(request, caller_));
  if (!serving_->prompt_logprobs_budget->TryClaim(admitted.prompt_logprobs_bytes, &prompt_logprobs_claim_)) {
    return absl::ResourceExhaustedError("prompt_logprobs: no memory left for the answer");
  }
  if (!serving_->grammar_budget->TryClaim(GrammarBytes(admitted.request), &grammar_claim_)) {
    return absl::ResourceExhaustedError("constraint: no memory left for the grammars of live requests");
  }
  return admitted;
}

absl::Status GenerateStream::HandToLoop(AdmittedRequest& admitted) {
  Prepare(admitted);
  intake_claim_ = {};  // before the loop can answer: a client that has its answer may use the room
  const absl::Status status = serving_->loop->Submit(std::move(admitted.request), this);
  if (!status.ok()) held_by_loop_.reset();
  return status;
}

void GenerateStream::Prepare(AdmittedRequest& admitted) {
  sched::Request& request = admitted.request;
  request.arrival = arrival_;
  request.deadline = deadline_;
  adapter_ = std::move(admitted.adapter_lease);
  if (const std::shared_ptr<AdapterVersion>& version = adapter_.version()) {
    request.adapter = {version, version->adapter.get()};
    request.adapter_id = version->sha256;
  }
  constrained_ = request.grammar != nullptr;
  stop_strings_ = std::move(admitted.stop_strings);
  wants_logprobs_ = request.sampling.logprobs >= 0;
  if (request.prompt_logprobs >= 0) prompt_ = request.prompt;
  for (int i = 0; i < request.num_choices; ++i) {
    choices_.push_back(Choice{.text = ChoiceText(*serving_->model->tokenizer, stop_strings_)});
  }
  held_by_loop_ = shared_from_this();
  absl::MutexLock lock(&mu_);
  request_id_ = request.id;
  live_choices_ = request.num_choices;
  outbox_.Push(StartedEvent{.request_id = request.id,
                            .model = serving_->model->name,
                            .seed = request.sampling.seed,
                            .prompt_tokens = static_cast<int64_t>(request.prompt.size())});
}

bool GenerateStream::IsCancelled() const {
  absl::MutexLock lock(&mu_);
  return cancel_cause_.has_value();
}

void GenerateStream::Refuse(const absl::Status& status) {
  intake_claim_ = {};
  if (status.code() == absl::StatusCode::kResourceExhausted) {
    transport_->SetRetryAfter(sched::RetryAfter(status).value_or(serving_->retry_after));
  }
  std::optional<sched::CancelCause> cause;
  {
    absl::MutexLock lock(&mu_);
    if (absl::IsDeadlineExceeded(status) && !cancel_cause_.has_value()) cancel_cause_ = sched::CancelCause::kDeadline;
    cause = cancel_cause_;
    live_choices_ = 0;
    Discard();
    final_status_ = cause.has_value() ? CancelStatus(*cause) : ToGrpcStatus(status);
  }
  if (cause.has_value()) {
    serving_->metrics->CountCancelled(*cause);
  } else {
    serving_->metrics->CountRejection(status.code(), caller_.tenant);
  }
  Pump();
}

void GenerateStream::OnCancel() {
  RequestCancel(serving_->clock() >= deadline_ ? sched::CancelCause::kDeadline : sched::CancelCause::kClient);
}

void GenerateStream::RequestCancel(sched::CancelCause cause) {
  {
    absl::MutexLock lock(&mu_);
    if (!cancel_cause_.has_value()) cancel_cause_ = cause;
    Discard();
    if (!submitted_ || live_choices_ == 0) return;
    cause = *cancel_cause_;
  }
  serving_->loop->Cancel(this, cause);
}

sched::TokenSink::Verdict GenerateStream::OnToken(int index, int32_t token, const engine::Logprobs& logprobs) {
  const sched::Nanos now = serving_->clock();
  Choice& choice = choices_[index];
  NoteToken(choice, now);
  adapter_.Started();
  const engine::StopMatcher::Result piece = choice.text.Push(token);
  bool full = false;
  {
    absl::MutexLock lock(&mu_);
    if (!discarding_) outbox_.PushToken(index, piece.text, token, wants_logprobs_ ? &logprobs : nullptr);
    full = outbox_.bytes() >= pause_bytes_;
    if (full && !paused_since_.has_value()) paused_since_ = now;
  }
  Pump();
  if (piece.matched >= 0) {
    choice.stop_string = stop_strings_[piece.matched];
    return Verdict::kStop;
  }
  return full ? Verdict::kPause : Verdict::kContinue;
}

void GenerateStream::NoteToken(Choice& choice, sched::Nanos now) {
  ++timings_.generated_tokens;
  if (timings_.first_token == 0) timings_.first_token = now;
  if (choice.last_token != 0) timings_.inter_token.Add(now - choice.last_token);
  choice.last_token = now;
}

void GenerateStream::OnPromptLogprobs(int64_t first, absl::Span<const engine::Logprobs> targets) {
  PromptLogprobsEvent event;
  event.first = first;
  event.ids.assign(prompt_.begin() + first, prompt_.begin() + first + targets.size());
  event.logprobs.assign(targets.begin(), targets.end());
  {
    absl::MutexLock lock(&mu_);
    if (!discarding_) outbox_.Push(std::move(event));
  }
  Pump();
}

void GenerateStream::OnFinish(int index, const sched::Finish& finish) {
  const sched::Nanos now = serving_->clock();
  Choice& choice = choices_[index];
  FinishedEvent event{.index = index,
                      .reason = finish.reason,
                      .stop_string = choice.stop_string,
                      .stop_token_id = finish.stop_token_id,
                      .usage = finish.usage,
                      .total_time = now - arrival_};
  // A constraint can end an answer so too, and that is the client's doing.
  if (finish.reason == sched::FinishReason::kError && !constrained_) adapter_.NoteFault();
  const std::string rest = choice.text.Flush();
  std::shared_ptr<GenerateStream> self;
  {
    absl::MutexLock lock(&mu_);
    if (!discarding_) {
      if (!rest.empty()) outbox_.PushText(index, rest);
      outbox_.Push(std::move(event));
    }
    if (index == 0) timings_.queue_time = finish.usage.queue_time;
    EndChoice(finish, now);
    self = live_choices_ == 0 ? std::move(held_by_loop_) : shared_from_this();
    if (live_choices_ == 0) adapter_ = {};
  }
  Pump();
}

void GenerateStream::EndChoice(const sched::Finish& finish, sched::Nanos now) {
  worst_reason_ = std::max(worst_reason_, finish.reason);
  if (--live_choices_ > 0) return;
  timings_.end = now;
  if (timings_.queue_time == 0) timings_.queue_time = now - arrival_;  // it never started
  timings_.prompt_tokens = finish.usage.prompt_tokens;
  final_status_ = StatusOf(worst_reason_, cancel_cause_.value_or(sched::CancelCause::kDrain));
}

void GenerateStream::CancelIfNamed(const std::string& tenant, const absl::flat_hash_set<std::string>& request_ids) {
  if (tenant != caller_.tenant) return;
  {
    absl::MutexLock lock(&mu_);
    if (request_id_.empty() || !request_ids.contains(request_id_)) return;
  }
  RequestCancel(sched::CancelCause::kClient);
}

bool GenerateStream::AbortIfStalled(sched::Nanos since) {
  {
    absl::MutexLock lock(&mu_);
    const bool write_stalled = writing_ && writing_since_ <= since;
    const bool pause_stalled = paused_since_.has_value() && *paused_since_ <= since;
    if (!write_stalled && !pause_stalled) return false;
    stalled_ = true;
    Discard();
    if (live_choices_ == 0) final_status_ = CancelStatus(sched::CancelCause::kSlowReader);
  }
  RequestCancel(sched::CancelCause::kSlowReader);
  Pump();
  return true;
}

void GenerateStream::Discard() {
  discarding_ = true;
  outbox_.Clear();
}

void GenerateStream::Pump() {
  while (StartNextOperation()) {
  }
}

bool GenerateStream::StartNextOperation() {
  std::optional<grpc::Status> end;
  StreamEvent event;
  {
    absl::MutexLock lock(&mu_);
    if (end_called_ || starting_write_) return false;
    // A write that nobody reads does not end by itself: a stalled stream may only finish.
    const bool write_in_the_way = writing_ && !stalled_;
    if (write_in_the_way) return false;
    if (!writing_ && !outbox_.empty()) {
      event = outbox_.Pop();
      writing_ = starting_write_ = true;
      writing_since_ = serving_->clock();
    } else if (final_status_.has_value()) {
      end_called_ = true;
      end = final_status_;
    } else {
      return false;
    }
  }
  if (end.has_value()) {
    // Before the client has its status: it may use the room at once.
    prompt_logprobs_claim_ = {};
    grammar_claim_ = {};
    transport_->End(*end);
    return false;
  }
  std::optional<grpc::ByteBuffer> message = wire_->Encode(event);
  if (!message.has_value()) {
    NoteWritten(/*ok=*/true);
  } else {
    buffer_ = *std::move(message);
    transport_->Write(&buffer_);
  }
  absl::MutexLock lock(&mu_);
  starting_write_ = false;
  return true;
}

void GenerateStream::NoteWritten(bool ok) {
  bool resume = false;
  {
    absl::MutexLock lock(&mu_);
    writing_ = false;
    if (!ok) Discard();
    resume = paused_since_.has_value() && outbox_.bytes() < serving_->limits.outbox_bytes / 2;
    if (resume) paused_since_.reset();
  }
  if (resume) serving_->loop->Resume(this);
}

void GenerateStream::OnWritten(bool ok) {
  NoteWritten(ok);
  Pump();
}

void GenerateStream::OnDone() {
  NoteDone();
  bool ran = false;
  {
    absl::MutexLock lock(&mu_);
    ran = timings_.end != 0;
  }
  if (ran) serving_->metrics->ObserveRequest(timings_, caller_.tenant);
  serving_->streams->Remove(this);
}

}  // namespace nibble::server
