// An OpenAI-compatible completions server as a Client, over libcurl.
#ifndef NIBBLE_LOADTEST_CLIENT_HTTP_H_
#define NIBBLE_LOADTEST_CLIENT_HTTP_H_

#include <cstdint>
#include <memory>
#include <string>

#include "loadtest/client.h"

namespace nibble::loadtest {

// `address`: HOST:PORT, plain HTTP. `model`: empty for the first one that /v1/models names. Prompts go out as token
// ids; the server's usage object, where it sends one, counts the tokens, else the chunks with text do.
std::unique_ptr<Client> MakeHttpClient(const std::string& address, const std::string& model, int64_t concurrency);

}  // namespace nibble::loadtest

#endif  // NIBBLE_LOADTEST_CLIENT_HTTP_H_
