// A Client for a service that streams answers over gRPC's callback API, whichever it is. `Dialect` says what differs:
//
//   using Service = …;                                          // generated
//   using Request = …; using Response = …;                      // of Service's Generate
//   static Request ToProto(const loadtest::Request&, const std::string& model);
//   // Takes what one message says into the record; the tokens in it. Sets `reason` where the answer ends.
//   static int64_t Read(const Response&, Record*, std::string* reason);
//   static bool Whole(const std::string& reason);               // the answer has all its tokens
//   // Blocks, within the context's deadline.
//   static absl::StatusOr<ModelInfo> Describe(typename Service::Stub&, grpc::ClientContext&, const std::string& model);
#ifndef NIBBLE_LOADTEST_STREAMING_CLIENT_H_
#define NIBBLE_LOADTEST_STREAMING_CLIENT_H_

#include <atomic>
#include <chrono>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "grpcpp/alarm.h"
#include "grpcpp/grpcpp.h"
#include "grpcpp/support/client_callback.h"
#include "loadtest/client.h"

namespace nibble::loadtest {

// Servers cap the streams of one connection (100 is usual); a share below that leaves no request waiting in the client.
inline constexpr int64_t kStreamsPerConnection = 64;

inline void AddKey(const std::string& key, grpc::ClientContext& context) {
  if (!key.empty()) context.AddMetadata("authorization", absl::StrCat("Bearer ", key));
}

// One request in flight. Owns itself, until its status has come.
template <typename Dialect>
class StreamingCall : public grpc::ClientReadReactor<typename Dialect::Response> {
 public:
  StreamingCall(typename Dialect::Service::Stub* stub, const Request& request, const std::string& model, Record* record,
                std::function<void()> done)
      : request_(request), proto_(Dialect::ToProto(request, model)), record_(record), done_(std::move(done)) {
    AddKey(request.key, context_);
    record_->sent = Clock::now();
    context_.set_deadline(std::chrono::system_clock::now() + request.timeout);
    stub->async()->Generate(&context_, &proto_, this);
    this->StartRead(&response_);
    this->StartCall();
  }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    const int64_t tokens = Dialect::Read(response_, record_, &reason_);
    if (tokens > 0) record_->chunks.push_back(Clock::now());
    record_->output_tokens += tokens;
    if (request_.cancel_after >= 0 && record_->output_tokens >= request_.cancel_after) context_.TryCancel();
    if (request_.stall_after >= 0 && record_->output_tokens >= request_.stall_after && !stalled_) {
      Stall();
    } else {
      this->StartRead(&response_);
    }
  }

  void OnDone(const grpc::Status& status) override {
    if (stalled_) {
      record_->outcome = Outcome::kStalled;
    } else if (status.ok() && Dialect::Whole(reason_)) {
      record_->outcome = Outcome::kCompleted;
    } else if (status.ok()) {
      record_->status = reason_.empty() ? "no reason" : reason_;
      record_->error = absl::StrCat("the answer ended with ", record_->status);
    } else if (request_.cancel_after >= 0 && status.error_code() == grpc::StatusCode::CANCELLED) {
      record_->outcome = Outcome::kCancelled;
    } else {
      // Abseil's codes are gRPC's.
      record_->status = absl::StatusCodeToString(static_cast<absl::StatusCode>(status.error_code()));
      record_->error = absl::StrCat(record_->status, ": ", status.error_message());
    }
    const std::function<void()> done = std::move(done_);
    delete this;
    done();
  }

 private:
  // The hold keeps the call alive until the alarm has rung, even where the server ends it before.
  void Stall() {
    stalled_ = true;
    this->AddHold();
    alarm_.Set(std::chrono::system_clock::now() + request_.stall_time, [this](bool) {
      this->StartRead(&response_);
      this->RemoveHold();
    });
  }

  const Request& request_;
  const typename Dialect::Request proto_;
  Record* const record_;
  std::function<void()> done_;
  grpc::ClientContext context_;
  typename Dialect::Response response_;
  grpc::Alarm alarm_;
  bool stalled_ = false;
  std::string reason_;  // that the answer ended with
};

template <typename Dialect>
class StreamingClient : public Client {
 public:
  // `address`: HOST:PORT. `model`: empty for the one that is served.
  StreamingClient(const std::string& address, std::string model, int64_t concurrency, const Tls& tls)
      : model_(std::move(model)) {
    const int64_t connections = (concurrency + kStreamsPerConnection - 1) / kStreamsPerConnection;
    const auto credentials =
        tls.ca.empty() ? grpc::InsecureChannelCredentials() : grpc::SslCredentials({tls.ca, tls.key, tls.certificate});
    grpc::ChannelArguments arguments;
    // Without it channels to one address would share one connection.
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    for (int64_t i = 0; i < connections; ++i) {
      stubs_.push_back(Dialect::Service::NewStub(grpc::CreateCustomChannel(address, credentials, arguments)));
    }
  }

  absl::StatusOr<ModelInfo> Describe(const std::string& key) override {
    grpc::ClientContext context;
    AddKey(key, context);
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(30));
    return Dialect::Describe(*stubs_[0], context, model_);
  }

  int64_t threads() const override { return std::numeric_limits<int64_t>::max(); }

  void Start(const Request& request, Record* record, std::function<void()> done) override {
    auto* const stub = stubs_[next_.fetch_add(1) % stubs_.size()].get();
    new StreamingCall<Dialect>(stub, request, model_, record, std::move(done));
  }

 private:
  const std::string model_;
  std::vector<std::unique_ptr<typename Dialect::Service::Stub>> stubs_;
  std::atomic<uint64_t> next_{0};
};

}  // namespace nibble::loadtest

#endif  // NIBBLE_LOADTEST_STREAMING_CLIENT_H_
