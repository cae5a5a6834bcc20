#include "server/vllm_kv_events.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "kvcache/base/status_macros.h"
#include "server/wire.h"

namespace nibble::server {
namespace {

namespace pb = smg::grpc::common;

// Of one message: some 100 KiB.
constexpr int64_t kBatchEvents = 1024;

pb::KvBlocksStored* AddStored(const kv::IndexEvent& event, uint64_t id, pb::KvEventBatch& batch) {
  pb::KvCacheEvent* const added = batch.add_events();
  added->set_event_id(id);
  if (event.parent) added->mutable_stored()->set_parent_block_hash(static_cast<int64_t>(*event.parent));
  return added->mutable_stored();
}

void AddBlock(const kv::IndexEvent& event, pb::KvBlocksStored* stored) {
  pb::KvBlock* const block = stored->add_blocks();
  block->set_block_hash(static_cast<int64_t>(event.page));
  block->set_block_size(kv::kPageTokens);
  for (const int32_t token : event.tokens) block->add_token_ids(static_cast<uint32_t>(token));
}

}  // namespace

grpc::ServerWriteReactor<grpc::ByteBuffer>* KvEventStream::Start(Serving* serving, StreamRegistry* subscribers,
                                                                 grpc::CallbackServerContext* context,
                                                                 const grpc::ByteBuffer& request) {
  std::shared_ptr<KvEventStream> stream(new KvEventStream(serving, subscribers, context));
  subscribers->Add(stream);
  const absl::Status status = stream->Subscribe(request);
  if (!status.ok()) stream->End(status);
  return stream.get();
}

absl::Status KvEventStream::Subscribe(const grpc::ByteBuffer& request) {
  pb::SubscribeKvEventsRequest message;
  NIBBLE_RETURN_IF_ERROR(ParseMessage(request, &message));
  if (subscribers_->size() > serving_->limits.kv_event_subscribers) {
    return absl::ResourceExhaustedError("too many subscribers to KV events");
  }
  {
    absl::MutexLock lock(&mu_);
    next_batch_ = std::max<uint64_t>(1, message.start_sequence_number());
  }
  StartSendInitialMetadata();
  return serving_->loop->WatchIndex(shared_from_this());
}

void KvEventStream::OnEvents(absl::Span<const kv::IndexEvent> events) {
  {
    absl::MutexLock lock(&mu_);
    if (ended_) return;
    const auto waiting = static_cast<int64_t>(queue_.size() + events.size());
    // What there is at the beginning is bounded by the cache.
    if (std::exchange(told_, true) && waiting > serving_->limits.kv_events_queued) {
      EndLocked(absl::ResourceExhaustedError("the subscriber fell behind"));
    } else {
      queue_.insert(queue_.end(), events.begin(), events.end());
    }
  }
  Pump();
}

void KvEventStream::OnClosed() { End(absl::UnavailableError("the server is shutting down")); }
void KvEventStream::OnCancel() { End(absl::CancelledError("the subscriber is gone")); }

void KvEventStream::OnWriteDone(bool ok) {
  {
    absl::MutexLock lock(&mu_);
    writing_ = false;
    if (!ok) EndLocked(absl::CancelledError("the subscriber is gone"));
  }
  Pump();
}

void KvEventStream::OnDone() {
  serving_->loop->UnwatchIndex(this);
  NoteDone();
  subscribers_->Remove(this);
}

bool KvEventStream::AbortIfStalled(sched::Nanos since) {
  {
    absl::MutexLock lock(&mu_);
    if (!writing_ || writing_since_ > since) return false;
    stalled_ = true;
    EndLocked(absl::AbortedError("slow_reader: the events were not read"));
  }
  Pump();
  return true;
}

void KvEventStream::End(absl::Status status) {
  {
    absl::MutexLock lock(&mu_);
    EndLocked(std::move(status));
  }
  Pump();
}

void KvEventStream::EndLocked(absl::Status status) {
  if (std::exchange(ended_, true)) return;
  status_ = std::move(status);
  queue_ = {};
}

// Starts what comes next, unless a write is in flight. Not under the lock: gRPC may react on this thread.
void KvEventStream::Pump() {
  absl::Status status;
  {
    absl::MutexLock lock(&mu_);
    // A write that nobody reads does not end by itself: a stalled stream may only finish.
    const bool write_in_the_way = writing_ && !stalled_;
    if (write_in_the_way || finished_ || (!ended_ && cleared_ && queue_.empty()) || (!ended_ && !told_)) return;
    status = status_;
    if (ended_) {
      finished_ = true;
    } else {
      writing_ = true;
      writing_since_ = serving_->clock();
      buffer_ = SerializeMessage(NextBatch());
    }
  }
  if (status.ok()) {
    StartWrite(&buffer_);
  } else {
    Finish(ToGrpcStatus(status));
  }
}

pb::KvEventBatch KvEventStream::NextBatch() {
  pb::KvEventBatch batch;
  batch.set_sequence_number(next_batch_++);
  batch.set_timestamp(absl::ToDoubleSeconds(absl::Now() - absl::UnixEpoch()));
  batch.set_dp_rank(0);
  if (!std::exchange(cleared_, true)) {
    batch.add_events()->mutable_cleared();
    batch.mutable_events(0)->set_event_id(next_event_++);
  }
  const int64_t count = std::min<int64_t>(kBatchEvents, static_cast<int64_t>(queue_.size()));
  pb::KvBlocksStored* run = nullptr;  // of pages each of which continues the one before
  uint64_t last = 0;
  for (int64_t i = 0; i < count; ++i, queue_.pop_front()) {
    const kv::IndexEvent& event = queue_.front();
    if (event.kind == kv::IndexEvent::Kind::kRemoved) {
      run = nullptr;
      pb::KvCacheEvent* const removed = batch.add_events();
      removed->set_event_id(next_event_++);
      removed->mutable_removed()->add_block_hashes(static_cast<int64_t>(event.page));
      continue;
    }
    if (run == nullptr || event.parent != last) run = AddStored(event, next_event_++, batch);
    AddBlock(event, run);
    last = event.page;
  }
  return batch;
}

}  // namespace nibble::server
