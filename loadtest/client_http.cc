#include "loadtest/client_http.h"

#include <curl/curl.h>

#include <algorithm>
#include <set>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "loadtest/http_get.h"
#include "loadtest/sse.h"
#include "nlohmann/json.hpp"

namespace nibble::loadtest {
namespace {

using nlohmann::json;

// Where a server does not say how large its vocabulary is: one that every model in use has.
constexpr int64_t kAssumedVocab = 16384;
constexpr size_t kMaxErrorBytes = 300;

std::string CompletionBody(const Request& request, const std::string& model) {
  json body = {{"prompt", request.prompt}, {"max_tokens", request.output_tokens},
               {"temperature", 0},         {"ignore_eos", true},
               {"stream", true},           {"stream_options", {{"include_usage", true}}}};
  // Servers of this protocol name a fine-tune as a model.
  if (!request.adapter.empty() || !model.empty()) body["model"] = request.adapter.empty() ? model : request.adapter;
  return body.dump();
}

// A server may send anything: nothing here may throw.
int64_t IntegerOr(const json& object, const char* key, int64_t fallback) {
  const auto value = object.find(key);
  return value != object.end() && value->is_number_integer() ? value->get<int64_t>() : fallback;
}

// One request in flight: its curl handle, what it sends, and what came back.
class Transfer {
 public:
  Transfer(const std::string& url, std::string body, const Request& request, Record* record, std::function<void()> done)
      : handle_(curl_easy_init()),
        headers_(Headers(request)),
        body_(std::move(body)),
        request_(request),
        record_(record),
        done_(std::move(done)) {
    record_->prompt_tokens = static_cast<int64_t>(request.prompt.size());
    curl_easy_setopt(handle_, CURLOPT_URL, url.c_str());
    curl_easy_setopt(handle_, CURLOPT_HTTPHEADER, headers_);
    curl_easy_setopt(handle_, CURLOPT_POSTFIELDS, body_.c_str());
    curl_easy_setopt(handle_, CURLOPT_POSTFIELDSIZE, static_cast<long>(body_.size()));
    curl_easy_setopt(handle_, CURLOPT_WRITEFUNCTION, &Transfer::Write);
    curl_easy_setopt(handle_, CURLOPT_WRITEDATA, this);
    curl_easy_setopt(handle_, CURLOPT_PRIVATE, this);
    curl_easy_setopt(handle_, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(handle_, CURLOPT_TIMEOUT_MS, static_cast<long>(request.timeout.count()));
    record_->sent = Clock::now();
  }
  ~Transfer() {
    curl_easy_cleanup(handle_);
    curl_slist_free_all(headers_);
  }
  Transfer(const Transfer&) = delete;
  Transfer& operator=(const Transfer&) = delete;

  CURL* handle() const { return handle_; }

  bool may_stall() const { return request_.stall_after >= 0; }
  bool stalls() const { return state_ == Reading::kStalled; }
  Clock::time_point stalls_until() const { return stalls_until_; }
  // REQUIRES: stalls().
  void Resume() {
    state_ = Reading::kResumed;
    curl_easy_pause(handle_, CURLPAUSE_CONT);
  }

  // Judges the outcome and tells the caller.
  void Finish(CURLcode code) {
    if (state_ != Reading::kSteadily) {
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

 private:
  static size_t Write(char* bytes, size_t, size_t count, void* self) {
    Transfer* transfer = static_cast<Transfer*>(self);
    if (transfer->IsToStall()) return CURL_WRITEFUNC_PAUSE;  // curl brings the same bytes again
    return transfer->OnBytes({bytes, count}) ? count : 0;
  }

  static curl_slist* Headers(const Request& request) {
    curl_slist* headers = curl_slist_append(nullptr, "Content-Type: application/json");
    // Without an empty Expect, curl holds large bodies back for a second.
    headers = curl_slist_append(headers, "Expect:");
    if (request.key.empty()) return headers;
    return curl_slist_append(headers, absl::StrCat("Authorization: Bearer ", request.key).c_str());
  }

  // True once.
  bool IsToStall() {
    if (state_ != Reading::kSteadily || request_.stall_after < 0 || record_->output_tokens < request_.stall_after) {
      return false;
    }
    state_ = Reading::kStalled;
    stalls_until_ = Clock::now() + request_.stall_time;
    return true;
  }

  long Status() const {
    long status = 0;
    curl_easy_getinfo(handle_, CURLINFO_RESPONSE_CODE, &status);
    return status;
  }

  void Fail(std::string status, std::string error) {
    record_->status = std::move(status);
    record_->error = std::move(error);
  }

  // Chunks with text are fewer than tokens, so only the server's own count is held against it.
  void JudgeAnswer() {
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

  // False ends the transfer.
  bool OnBytes(std::string_view bytes) {
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

  void OnEvent(const json& event) {
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

  static bool CarriesText(const json& event) {
    const auto choices = event.find("choices");
    if (choices == event.end() || !choices->is_array() || choices->empty()) return false;
    const json& first = choices->front();
    const auto text = first.find("text");
    return text != first.end() && text->is_string() && !text->get_ref<const std::string&>().empty();
  }

  enum class Reading { kSteadily, kStalled, kResumed };

  CURL* const handle_;
  curl_slist* const headers_;
  const std::string body_;
  const Request& request_;
  Record* const record_;
  const std::function<void()> done_;
  bool saw_end_ = false;
  bool server_counted_ = false;
  SseReader reader_;
  std::string rejection_;
  bool hung_up_ = false;
  Reading state_ = Reading::kSteadily;
  Clock::time_point stalls_until_;
};

// One thread moves the bytes of all transfers.
class HttpClient : public Client {
 public:
  HttpClient(const std::string& address, std::string model)
      : base_(absl::StrCat("http://", address)), url_(base_ + "/v1/completions"), model_(std::move(model)) {
    curl_global_init(CURL_GLOBAL_DEFAULT);
    multi_ = curl_multi_init();
    thread_ = std::thread([this] { Loop(); });
  }

  ~HttpClient() override {
    {
      absl::MutexLock lock(&mutex_);
      stopping_ = true;
    }
    curl_multi_wakeup(multi_);
    thread_.join();
    curl_multi_cleanup(multi_);
    curl_global_cleanup();
  }

  absl::StatusOr<ModelInfo> Describe() override {
    const absl::StatusOr<std::string> body = HttpGet(base_ + "/v1/models", std::chrono::seconds(30));
    if (!body.ok()) return body.status();
    const json models = json::parse(*body, nullptr, false);
    const json::json_pointer id("/data/0/id"), vocab("/data/0/meta/n_vocab");
    if (model_.empty() && models.contains(id) && models[id].is_string()) model_ = models[id];
    const bool says_vocab = models.contains(vocab) && models[vocab].is_number_integer();
    return ModelInfo{model_, says_vocab ? models[vocab].get<int64_t>() : kAssumedVocab};
  }

  int64_t threads() const override { return 1; }

  void Start(const Request& request, Record* record, std::function<void()> done) override {
    auto transfer = std::make_unique<Transfer>(url_, CompletionBody(request, model_), request, record, std::move(done));
    {
      absl::MutexLock lock(&mutex_);
      pending_.push_back(std::move(transfer));
    }
    curl_multi_wakeup(multi_);
  }

 private:
  void Loop() {
    while (AddPending() || active_ > 0) {
      int running = 0;
      curl_multi_perform(multi_, &running);
      FinishDone();
      curl_multi_poll(multi_, nullptr, 0, ResumeDue(), nullptr);
    }
  }

  // Lets stalled readers whose time is over read on; returns the milliseconds until the next one's is, at most 1000.
  int ResumeDue() {
    Clock::time_point next = Clock::now() + std::chrono::seconds(1);
    for (Transfer* transfer : may_stall_) {
      if (!transfer->stalls()) continue;
      if (transfer->stalls_until() <= Clock::now()) {
        transfer->Resume();
      } else {
        next = std::min(next, transfer->stalls_until());
      }
    }
    return static_cast<int>(std::chrono::ceil<std::chrono::milliseconds>(next - Clock::now()).count());
  }

  // False once there will be no more.
  bool AddPending() {
    std::vector<std::unique_ptr<Transfer>> added;
    absl::MutexLock lock(&mutex_);
    added.swap(pending_);
    for (auto& transfer : added) {
      if (transfer->may_stall()) may_stall_.insert(transfer.get());
      curl_multi_add_handle(multi_, transfer.release()->handle());
      ++active_;
    }
    return !stopping_;
  }

  void FinishDone() {
    int left = 0;
    while (CURLMsg* message = curl_multi_info_read(multi_, &left)) {
      CURL* handle = message->easy_handle;
      const CURLcode code = message->data.result;
      Transfer* transfer = nullptr;
      curl_easy_getinfo(handle, CURLINFO_PRIVATE, &transfer);
      curl_multi_remove_handle(multi_, handle);
      const std::unique_ptr<Transfer> owned(transfer);
      --active_;
      may_stall_.erase(transfer);
      owned->Finish(code);
    }
  }

  const std::string base_;
  const std::string url_;
  std::string model_;
  CURLM* multi_ = nullptr;
  // The thread's own.
  int64_t active_ = 0;
  std::set<Transfer*> may_stall_;
  absl::Mutex mutex_;
  std::vector<std::unique_ptr<Transfer>> pending_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace

std::unique_ptr<Client> MakeHttpClient(const std::string& address, const std::string& model, int64_t) {
  return std::make_unique<HttpClient>(address, model);
}

}  // namespace nibble::loadtest
