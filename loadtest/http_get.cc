#include "loadtest/http_get.h"

#include <curl/curl.h>

#include "absl/strings/str_cat.h"

namespace nibble::loadtest {
namespace {

size_t AppendTo(char* bytes, size_t, size_t count, void* text) {
  static_cast<std::string*>(text)->append(bytes, count);
  return count;
}

}  // namespace

absl::StatusOr<std::string> HttpGet(const std::string& url, std::chrono::milliseconds timeout, const std::string& key) {
  std::string body;
  CURL* handle = curl_easy_init();
  curl_easy_setopt(handle, CURLOPT_URL, url.c_str());
  curl_easy_setopt(handle, CURLOPT_WRITEFUNCTION, &AppendTo);
  curl_easy_setopt(handle, CURLOPT_WRITEDATA, &body);
  curl_easy_setopt(handle, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(handle, CURLOPT_FAILONERROR, 1L);
  curl_easy_setopt(handle, CURLOPT_TIMEOUT_MS, static_cast<long>(timeout.count()));
  curl_slist* headers = nullptr;
  if (!key.empty()) headers = curl_slist_append(nullptr, absl::StrCat("Authorization: Bearer ", key).c_str());
  curl_easy_setopt(handle, CURLOPT_HTTPHEADER, headers);
  const CURLcode code = curl_easy_perform(handle);
  curl_slist_free_all(headers);
  curl_easy_cleanup(handle);
  if (code != CURLE_OK) return absl::UnavailableError(absl::StrCat(url, ": ", curl_easy_strerror(code)));
  return body;
}

}  // namespace nibble::loadtest
