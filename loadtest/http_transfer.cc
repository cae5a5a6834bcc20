#include "loadtest/http_transfer.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

namespace nibble::loadtest {
namespace {

using nlohmann::json;

constexpr size_t kMaxErrorBytes = 300;

std::string CompletionBody(const Request& request, const std::string& model) {
  json body = {{"prompt", request.prompt}, {"max_tokens", request.output_tokens},
               {"temperature", 0},         {"ignore_eos", true},
               {"stream", true},           {"stream_options", {{"include_usage", true}}}};
  // Servers of this protocol name a fine-tune as a model.
  if (!request.adapter.empty() || !model.empty()) body["model"] = request.adapter.empty() ? model : request.adapter;
  return body.dump();
}

curl_slist* Headers(const Request& request) {
  curl_slist* headers = curl_slist_append(nullptr, "Content-Type: application/json");
  // Without an empty Expect, curl holds large bodies back for a second.
  headers = curl_slist_append(headers, "Expect:");
  if (request.key.empty()) return headers;
  return curl_slist_append(headers, absl::StrCat("Authorization: Bearer ", request.key).c_str());
}

// A server may send anything: nothing here may throw.
int64_t IntegerOr(const json& object, const char* key, int64_t fallback) {
  const auto value = object.find(key);
  return value != object.end() && value->is_number_integer() ? value->get<int64_t>() : fallback;
}

bool CarriesText(const json& event) {
  const auto choices = event.find("choices");
  if (choices == event.end() || !choices->is_array() || choices->empty()) return false;
  const json& first = choices->front();
  const auto text = first.find("text");
  return text != first.end() && text->is_string() && !text->get_ref<const std::string&>().empty();
}

}  // namespace

HttpTransfer::HttpTransfer(const std::string& url, const std::string& model, const Request& request, Record* record,
                           std::function<void()> done)
    : handle_(curl_easy_init()),
      headers_(Headers(request)),
      body_(CompletionBody(request, model)),
      request_(request),
      record_(record),
      done_(std::move(done)) {
  record_->prompt_tokens = static_cast<int64_t>(request.prompt.size());
  curl_easy_setopt(handle_, CURLOPT_URL, url.c_str());
  curl_easy_setopt(handle_, CURLOPT_HTTPHEADER, headers_);
  curl_easy_setopt(handle_, CURLOPT_POSTFIELDS, body_.c_str());
  curl_easy_setopt(handle_, CURLOPT_POSTFIELDSIZE, static_cast<long>(body_.size()));
  curl_easy_setopt(handle_, CURLOPT_WRITEFUNCTION, &HttpTransfer::Write);
  curl_easy_setopt(handle_, CURLOPT_WRITEDATA, this);
  curl_easy_setopt(handle_, CURLOPT_PRIVATE, this);
  curl_easy_setopt(handle_, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(handle_, CURLOPT_TIMEOUT_MS, static_cast<long>(request.timeout.count()));
  record_->sent = Clock::now();
}

HttpTransfer::~HttpTransfer() {
  curl_easy_cleanup(handle_);
  curl_slist_free_all(headers_);
}

void HttpTransfer::Resume() {
  reading_ = Reading::kResumed;
  curl_easy_pause(handle_, CURLPAUSE_CONT);
}

void HttpTransfer::Finish(CURLcode code) {
  if (reading_ != Reading::kSteadily) {
    record_->outcome = Outcome::kStalled;
  } else if (hung_up_) {
    record_->outcome = Outcome::kCancelled;
  } else if (code != CURLE_OK) {
    Fail(curl_easy_strerror(code), curl_easy_strerror(code));
  } else if (Status() != 200) {
    const std::string status = absl::StrCat("http status ", Status());
    Fail(status, absl::StrCat(status, ": ", rejection_));
  } else if (record_->error.empty()) {
    JudgeAnswer();
  }
  done_();
}

size_t HttpTransfer::Write(char* bytes, size_t, size_t count, void* self) {
  auto* transfer = static_cast<HttpTransfer*>(self);
  if (transfer->IsToStall()) return CURL_WRITEFUNC_PAUSE;  // curl brings the same bytes again
  return transfer->OnBytes({bytes, count}) ? count : 0;
}

// True once, and never of a refusal.
bool HttpTransfer::IsToStall() {
  if (reading_ != Reading::kSteadily || !may_stall() || record_->output_tokens < request_.stall_after) return false;
  if (Status() != 200) return false;
  reading_ = Reading::kStalled;
  stalls_until_ = Clock::now() + request_.stall_time;
  return true;
}

// False ends the transfer.
bool HttpTransfer::OnBytes(std::string_view bytes) {
  if (Status() != 200) {
    rejection_.append(bytes.substr(0, kMaxErrorBytes - std::min(kMaxErrorBytes, rejection_.size())));
    return true;
  }
  for (const std::string& payload : reader_.Add(bytes)) {
    saw_end_ = saw_end_ || payload == "[DONE]";
    OnEvent(json::parse(payload, nullptr, false));
  }
  hung_up_ = request_.cancel_after >= 0 && record_->output_tokens >= request_.cancel_after;
  return !hung_up_;
}

void HttpTransfer::OnEvent(const json& event) {
  if (!event.is_object()) return;  // "[DONE]"
  if (event.contains("error")) Fail("error in the stream", event["error"].dump().substr(0, kMaxErrorBytes));
  if (CarriesText(event)) {
    record_->chunks.push_back(Clock::now());
    ++record_->output_tokens;
  }
  const auto usage = event.find("usage");
  if (usage == event.end() || !usage->is_object()) return;
  record_->prompt_tokens = IntegerOr(*usage, "prompt_tokens", record_->prompt_tokens);
  const int64_t counted = IntegerOr(*usage, "completion_tokens", -1);
  if (counted < 0) return;
  record_->output_tokens = counted;
  server_counted_ = true;
}

// Chunks with text are fewer than tokens, so only the server's own count is held against it.
void HttpTransfer::JudgeAnswer() {
  if (!saw_end_) {
    Fail("broken off", "the stream broke off before [DONE]");
  } else if (server_counted_ && record_->output_tokens != request_.output_tokens) {
    Fail("wrong length", absl::StrCat("asked for ", request_.output_tokens, " tokens, got ", record_->output_tokens));
  } else if (record_->output_tokens == 0) {
    Fail("no text", "no text came");
  } else {
    record_->outcome = Outcome::kCompleted;
  }
}

void HttpTransfer::Fail(std::string status, std::string error) {
  record_->status = std::move(status);
  record_->error = std::move(error);
}

long HttpTransfer::Status() const {
  long status = 0;
  curl_easy_getinfo(handle_, CURLINFO_RESPONSE_CODE, &status);
  return status;
}

}  // namespace nibble::loadtest
