// A server whose every delay is known.
#ifndef NIBBLE_TESTS_LOADTEST_TIMED_SERVER_H_
#define NIBBLE_TESTS_LOADTEST_TIMED_SERVER_H_

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "grpcpp/grpcpp.h"
#include "loadtest/request.h"
#include "nibble/v1/inference.grpc.pb.h"

namespace nibble::loadtest {

struct Script {
  std::chrono::milliseconds first{0}, gap{0};
  // From the first request's coming on, while nothing is answered.
  std::chrono::milliseconds stall_from{0}, stall_until{0};
  int64_t close_after = -1;  // tokens after which the stream ends in an error; -1: never
};

// Sends one token a message, by the script.
class TimedServer : public v1::Inference::Service {
 public:
  explicit TimedServer(const Script& script) : script_(script) {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  ~TimedServer() override { server_->Shutdown(); }

  std::string address() const { return absl::StrCat("127.0.0.1:", port_); }

  grpc::Status GetModel(grpc::ServerContext*, const v1::GetModelRequest*, v1::Model* model) override {
    model->set_name("timed");
    model->set_vocab_size(32000);
    return grpc::Status::OK;
  }

  grpc::Status Generate(grpc::ServerContext*, const v1::GenerateRequest* request,
                        grpc::ServerWriter<v1::GenerateResponse>* writer) override {
    const Clock::time_point came = Clock::now();
    const Clock::time_point start = StartOf(came);
    std::this_thread::sleep_until(came + script_.first);
    if (came >= start + script_.stall_from) std::this_thread::sleep_until(start + script_.stall_until);
    Clock::time_point due = Clock::now();
    for (int64_t sent = 0; sent < request->stopping().max_tokens(); ++sent) {
      if (sent == script_.close_after) return {grpc::StatusCode::UNAVAILABLE, "going away"};
      std::this_thread::sleep_until(due);
      v1::GenerateResponse response;
      response.mutable_chunk()->add_token_ids(5);
      writer->Write(response);
      due += script_.gap;
    }
    v1::GenerateResponse response;
    response.mutable_finished()->set_reason(v1::FINISH_REASON_LENGTH);
    writer->Write(response);
    return grpc::Status::OK;
  }

 private:
  Clock::time_point StartOf(Clock::time_point came) {
    absl::MutexLock lock(&mutex_);
    if (!started_) start_ = came;
    started_ = true;
    return start_;
  }

  const Script script_;
  int port_ = 0;
  absl::Mutex mutex_;
  bool started_ ABSL_GUARDED_BY(mutex_) = false;
  Clock::time_point start_ ABSL_GUARDED_BY(mutex_);
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace nibble::loadtest

#endif  // NIBBLE_TESTS_LOADTEST_TIMED_SERVER_H_
