#include "scheduler/serving_loop.h"

#include <chrono>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "kvcache/base/mutex.h"
#include "kvcache/base/status_macros.h"

namespace nibble::sched {
namespace {

// The clock need not run at the pace of real time, so deadlines are looked at rather than slept for.
constexpr std::chrono::milliseconds kDeadlinePoll{20};

}  // namespace

struct ServingLoop::State {
  using Message = std::function<void(Scheduler&)>;

  State(engine::Engine* engine, const SchedulerOptions& options, std::function<Nanos()> clock)
      : engine(engine), clock(std::move(clock)), scheduler(options, LimitsOf(*engine)) {
    published = scheduler.counters();
    beat.last_step = this->clock();
  }

  // Any thread.
  void Send(Message message) ABSL_LOCKS_EXCLUDED(mutex);
  void Post(Message message) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  absl::Status Submit(Request request, TokenSink* sink) ABSL_LOCKS_EXCLUDED(mutex);

  // The loop's thread.
  void Run() ABSL_LOCKS_EXCLUDED(mutex);
  void Sleep() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex);
  bool ReadMail(bool ran) ABSL_LOCKS_EXCLUDED(mutex);
  bool Step();
  void Publish(bool ran) ABSL_LOCKS_EXCLUDED(mutex);

  engine::Engine* const engine;
  const std::function<Nanos()> clock;
  Scheduler scheduler;  // the loop's, but for its admission()
  std::thread thread;

  Mutex stop_mutex ABSL_ACQUIRED_BEFORE(mutex);  // held by the one that stops
  Mutex mutex;
  CondVar mailed;  // mail or stopping
  std::vector<Message> mail ABSL_GUARDED_BY(mutex);
  bool draining ABSL_GUARDED_BY(mutex) = false;
  bool stopping ABSL_GUARDED_BY(mutex) = false;
  Counters published ABSL_GUARDED_BY(mutex);
  Heartbeat beat ABSL_GUARDED_BY(mutex);
};

void ServingLoop::State::Send(Message message) {
  MutexLock lock(&mutex);
  Post(std::move(message));
}

// The heartbeat of an idle loop starts with the work, not with the last step before it.
void ServingLoop::State::Post(Message message) {
  mail.push_back(std::move(message));
  if (!std::exchange(beat.has_work, true)) beat.last_step = clock();
  mailed.Signal();
}

absl::Status ServingLoop::State::Submit(Request request, TokenSink* sink) {
  NIBBLE_RETURN_IF_ERROR(scheduler.admission().Admit(request));
  auto handed = std::make_shared<Request>(std::move(request));
  MutexLock lock(&mutex);
  if (draining || stopping) {
    scheduler.admission().Finished(*handed, /*started=*/false, /*generated_tokens=*/0);
    return absl::UnavailableError("the server is shutting down");
  }
  Post([handed, sink](Scheduler& scheduler) { scheduler.Enqueue(std::move(*handed), sink); });
  return absl::OkStatus();
}

void ServingLoop::State::Run() {
  bool ran = false;
  while (ReadMail(ran)) {
    ran = Step();
    scheduler.index_watchers().Tell();
    Publish(ran);
  }
  scheduler.index_watchers().Close();
  scheduler.CancelAll(CancelCause::kDrain);
  Publish(false);
}

// Until there is mail, or it is time to look at the deadlines.
void ServingLoop::State::Sleep() {
  if (scheduler.next_deadline() != kNoDeadline) {
    if (mail.empty() && !stopping) mailed.WaitFor(&mutex, kDeadlinePoll);
    return;
  }
  while (mail.empty() && !stopping) mailed.Wait(&mutex);
}

// Applies what has come, first sleeping for it if the last step had nothing to run. False: stop.
bool ServingLoop::State::ReadMail(bool ran) {
  std::vector<Message> messages;
  bool more;
  {
    MutexLock lock(&mutex);
    if (!ran) Sleep();
    messages.swap(mail);
    more = !stopping;
  }
  for (const Message& message : messages) message(scheduler);
  return more;
}

bool ServingLoop::State::Step() {
  const engine::StepPlan& plan = scheduler.Plan(clock());
  if (plan.sequences.empty()) return false;
  engine->Launch(plan);
  const engine::StepResult& results = engine->Await();
  scheduler.Commit(results, clock());
  return true;
}

void ServingLoop::State::Publish(bool ran) {
  const Counters counters = scheduler.counters();
  const Nanos now = clock();
  MutexLock lock(&mutex);
  published = counters;
  beat = {now, ran || !mail.empty()};
}

ServingLoop::ServingLoop(engine::Engine* engine, const SchedulerOptions& options, std::function<Nanos()> clock)
    : state_(std::make_unique<State>(engine, options, std::move(clock))) {}

ServingLoop::~ServingLoop() { Stop(); }

void ServingLoop::Start() {
  state_->thread = std::thread([state = state_.get()] { state->Run(); });
}

void ServingLoop::Stop() {
  MutexLock stop(&state_->stop_mutex);
  bool first;
  {
    MutexLock lock(&state_->mutex);
    first = !std::exchange(state_->stopping, true);
    state_->mailed.Signal();
  }
  if (state_->thread.joinable()) {
    state_->thread.join();
  } else if (first) {
    state_->Run();  // never started: what was accepted still gets its end
  }
}

absl::Status ServingLoop::Submit(Request request, TokenSink* sink) { return state_->Submit(std::move(request), sink); }

// A sink's place may be another sink's when the message is read, but that one's request comes later in the mail.
absl::Status ServingLoop::CheckRoom(const std::string& tenant, const TenantTerms& terms) const {
  return state_->scheduler.admission().CheckRoom(tenant, terms, state_->clock());
}

void ServingLoop::Cancel(const TokenSink* sink, CancelCause cause) {
  state_->Send([sink, cause](Scheduler& scheduler) { scheduler.Cancel(sink, cause); });
}

void ServingLoop::Resume(const TokenSink* sink) {
  state_->Send([sink](Scheduler& scheduler) { scheduler.Resume(sink); });
}

void ServingLoop::FlushIndex() {
  state_->Send([](Scheduler& scheduler) { scheduler.FlushIndex(); });
}

absl::Status ServingLoop::WatchIndex(std::shared_ptr<IndexWatcher> watcher) {
  MutexLock lock(&state_->mutex);
  if (state_->draining || state_->stopping) return absl::UnavailableError("the server is shutting down");
  state_->Post([watcher](Scheduler& scheduler) { scheduler.index_watchers().Add(watcher); });
  return absl::OkStatus();
}

void ServingLoop::UnwatchIndex(const IndexWatcher* watcher) {
  state_->Send([watcher](Scheduler& scheduler) { scheduler.index_watchers().Remove(watcher); });
}

void ServingLoop::BeginDrain() {
  MutexLock lock(&state_->mutex);
  if (std::exchange(state_->draining, true)) return;
  state_->Post([](Scheduler& scheduler) { scheduler.index_watchers().Close(); });
}

Counters ServingLoop::Snapshot() const {
  MutexLock lock(&state_->mutex);
  return state_->published;
}

ServingLoop::Heartbeat ServingLoop::heartbeat() const {
  MutexLock lock(&state_->mutex);
  return state_->beat;
}

}  // namespace nibble::sched
