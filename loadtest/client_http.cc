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
#include "loadtest/http_transfer.h"
#include "nlohmann/json.hpp"

namespace nibble::loadtest {
namespace {

using nlohmann::json;

// Where a server does not say how large its vocabulary is: one that every model in use has.
constexpr int64_t kAssumedVocab = 16384;

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

  absl::StatusOr<ModelInfo> Describe(const std::string& key) override {
    const absl::StatusOr<std::string> body = HttpGet(base_ + "/v1/models", std::chrono::seconds(30), key);
    if (!body.ok()) return body.status();
    const json models = json::parse(*body, nullptr, false);
    const json::json_pointer id("/data/0/id"), vocab("/data/0/meta/n_vocab");
    if (model_.empty() && models.contains(id) && models[id].is_string()) model_ = models[id];
    const bool says_vocab = models.contains(vocab) && models[vocab].is_number_integer();
    return ModelInfo{model_, says_vocab ? models[vocab].get<int64_t>() : kAssumedVocab};
  }

  int64_t threads() const override { return 1; }

  void Start(const Request& request, Record* record, std::function<void()> done) override {
    auto transfer = std::make_unique<HttpTransfer>(url_, model_, request, record, std::move(done));
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
    for (HttpTransfer* transfer : may_stall_) {
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
    std::vector<std::unique_ptr<HttpTransfer>> added;
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
      HttpTransfer* transfer = nullptr;
      curl_easy_getinfo(handle, CURLINFO_PRIVATE, &transfer);
      curl_multi_remove_handle(multi_, handle);
      const std::unique_ptr<HttpTransfer> owned(transfer);
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
  std::set<HttpTransfer*> may_stall_;
  absl::Mutex mutex_;
  std::vector<std::unique_ptr<HttpTransfer>> pending_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace

std::unique_ptr<Client> MakeHttpClient(const std::string& address, const std::string& model, int64_t) {
  return std::make_unique<HttpClient>(address, model);
}

}  // namespace nibble::loadtest
