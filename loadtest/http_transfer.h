// One completion over HTTP.
#ifndef NIBBLE_LOADTEST_HTTP_TRANSFER_H_
#define NIBBLE_LOADTEST_HTTP_TRANSFER_H_

#include <curl/curl.h>

#include <functional>
#include <string>
#include <string_view>

#include "loadtest/request.h"
#include "loadtest/sse.h"
#include "nlohmann/json_fwd.hpp"

namespace nibble::loadtest {

// What is sent, its curl handle, and what comes back. One thread's, once constructed.
class HttpTransfer {
 public:
  // `request` and `record` must outlive it.
  HttpTransfer(const std::string& url, const std::string& model, const Request& request, Record* record,
               std::function<void()> done);
  ~HttpTransfer();
  HttpTransfer(const HttpTransfer&) = delete;
  HttpTransfer& operator=(const HttpTransfer&) = delete;

  // Its CURLOPT_PRIVATE is the transfer.
  CURL* handle() const { return handle_; }

  bool may_stall() const { return request_.stall_after >= 0; }
  bool stalls() const { return reading_ == Reading::kStalled; }
  Clock::time_point stalls_until() const { return stalls_until_; }
  // REQUIRES: stalls().
  void Resume();

  // Judges the outcome, once curl has ended it, and tells the caller.
  void Finish(CURLcode code);

 private:
  enum class Reading { kSteadily, kStalled, kResumed };

  static size_t Write(char* bytes, size_t, size_t count, void* self);
  bool IsToStall();
  bool OnBytes(std::string_view bytes);
  void OnEvent(const nlohmann::json& event);
  void JudgeAnswer();
  void Fail(std::string status, std::string error);
  long Status() const;

  CURL* const handle_;
  curl_slist* const headers_;
  const std::string body_;
  const Request& request_;
  Record* const record_;
  const std::function<void()> done_;
  SseReader reader_;
  std::string rejection_;
  bool saw_end_ = false;
  bool server_counted_ = false;
  bool hung_up_ = false;
  Reading reading_ = Reading::kSteadily;
  Clock::time_point stalls_until_;
};

}  // namespace nibble::loadtest

#endif  // NIBBLE_LOADTEST_HTTP_TRANSFER_H_
