#include "server/oip_stream.h"

#include <grpcpp/server_context.h>

#include <tuple>
#include <utility>

#include "server/generate_stream.h"
#include "server/oip_wire.h"
#include "server/streaming_call.h"
#include "server/wire.h"

namespace nibble::server {
namespace {

constexpr char kStreamInfer[] = "/inference.GRPCInferenceService/ModelStreamInfer";

}  // namespace

// Kept by the stream until its answer has ended, and by each write of its that waits.
class OipStream::Place final : public AnswerTransport {
 public:
  Place(std::shared_ptr<OipStream> owner, Serving* serving) : owner_(std::move(owner)) {
    auto wire = std::make_unique<OipWire>(*serving, OipWire::Call::kStreamInfer);
    wire_ = wire.get();
    const sched::Nanos deadline = DeadlineOf(*owner_->context_, serving->clock());
    answer_ = std::make_shared<GenerateStream>(serving, std::move(wire), owner_->caller_, this, deadline);
  }

  GenerateStream& answer() { return *answer_; }

  void Write(const grpc::ByteBuffer* message) override { owner_->Enqueue(this, message); }

  void End(const grpc::Status& status) override {
    if (status.ok()) return owner_->Leave(this);
    error_ = wire_->EncodeError(status.error_message());
    owner_->Enqueue(this, &error_);
  }

  // One stream's trailing metadata cannot speak for one of its requests.
  void SetRetryAfter(sched::Nanos) override {}

  void Reset() override { owner_->context_->TryCancel(); }

  // Of the message at the head of the queue.
  void OnWritten(const grpc::ByteBuffer* message, bool ok) {
    if (message == &error_) return owner_->Leave(this);
    answer_->OnWritten(ok);
  }

 private:
  const std::shared_ptr<OipStream> owner_;
  OipWire* wire_ = nullptr;  // the answer's
  std::shared_ptr<GenerateStream> answer_;
  grpc::ByteBuffer error_;
};

OipStream::OipStream(Serving* serving, const Caller& caller, grpc::CallbackServerContext* context,
                     std::function<void(OipStream*)> on_done)
    : serving_(serving), caller_(caller), context_(context), on_done_(std::move(on_done)) {}

void OipStream::Begin() {
  held_by_grpc_ = shared_from_this();
  mu_.Lock();
  PumpAndUnlock();
}

void OipStream::BeginDrain() {
  mu_.Lock();
  draining_ = true;
  PumpAndUnlock();
}

void OipStream::OnReadDone(bool ok) {
  std::shared_ptr<Place> place;
  grpc::ByteBuffer request;
  // A stream has no end of its own: a key that was taken back must not outlive it here.
  absl::StatusOr<Caller> caller = serving_->gate->Enter(kStreamInfer, *context_);
  {
    absl::MutexLock lock(&mu_);
    reading_ = false;
    if (!ok) closed_ = true;
    if (!closed_ && !caller.ok()) {
      closed_ = true;
      refused_ = caller.status();
    }
    if (!closed_) {
      caller_ = *std::move(caller);
      request.Swap(&request_);
      place = std::make_shared<Place>(shared_from_this(), serving_);
      places_.emplace(place.get(), place);
    }
  }
  if (place != nullptr) place->answer().Begin(request);
  mu_.Lock();
  PumpAndUnlock();
}

void OipStream::OnWriteDone(bool ok) {
  std::shared_ptr<Place> place;
  const grpc::ByteBuffer* message = nullptr;
  {
    absl::MutexLock lock(&mu_);
    writing_ = false;
    std::tie(place, message) = std::move(queue_.front());
    queue_.pop_front();
  }
  place->OnWritten(message, ok);
  mu_.Lock();
  PumpAndUnlock();
}

void OipStream::OnCancel() {
  {
    absl::MutexLock lock(&mu_);
    closed_ = true;
  }
  for (const auto& place : Places()) place->answer().OnCancel();
  mu_.Lock();
  PumpAndUnlock();
}

void OipStream::OnDone() {
  const std::shared_ptr<OipStream> self = std::move(held_by_grpc_);
  on_done_(this);
}

void OipStream::Enqueue(Place* place, const grpc::ByteBuffer* message) {
  mu_.Lock();
  queue_.emplace_back(places_.at(place), message);
  PumpAndUnlock();
}

void OipStream::Leave(Place* place) {
  place->answer().OnDone();
  mu_.Lock();
  const auto it = places_.find(place);
  const std::shared_ptr<Place> last = std::move(it->second);  // its answer is still on the stack
  places_.erase(it);
  PumpAndUnlock();
}

bool OipStream::MayRead() const {
  const bool full = static_cast<int>(places_.size()) >= serving_->limits.streams_per_connection;
  return !reading_ && !closed_ && !draining_ && !full;
}

bool OipStream::MayFinish() const {
  return starting_ == 0 && places_.empty() && queue_.empty() && (closed_ || draining_);
}

void OipStream::PumpAndUnlock() {
  while (!finished_) {
    if (!writing_ && !queue_.empty()) {
      const grpc::ByteBuffer* message = queue_.front().second;
      writing_ = true;
      ++starting_;
      mu_.Unlock();
      StartWrite(message);
    } else if (MayRead()) {
      reading_ = true;
      ++starting_;
      mu_.Unlock();
      StartRead(&request_);
    } else if (MayFinish()) {
      finished_ = true;
      const bool whole = closed_;
      const absl::Status refused = refused_;
      mu_.Unlock();
      if (whole) return Finish(ToGrpcStatus(refused));
      return Finish(grpc::Status(grpc::StatusCode::UNAVAILABLE, "the server drains"));
    } else {
      break;
    }
    mu_.Lock();
    --starting_;
  }
  mu_.Unlock();
}

std::vector<std::shared_ptr<OipStream::Place>> OipStream::Places() {
  absl::MutexLock lock(&mu_);
  std::vector<std::shared_ptr<Place>> places;
  for (const auto& [key, place] : places_) places.push_back(place);
  return places;
}

}  // namespace nibble::server
