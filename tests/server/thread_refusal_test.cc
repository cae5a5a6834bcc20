// Row 66 of the robustness table: threads that the system refuses, at every place where our own code starts one.
// (gRPC's core ends the process where it is refused one.)
#include <dlfcn.h>
#include <pthread.h>

#include <atomic>
#include <cerrno>
#include <string_view>

#include "server/tokenizer_files.h"
#include "tests/base/status_matchers.h"
#include "tests/server/tenants_fixture.h"

namespace {

std::atomic<int> before_refusal = -1;  // threads; negative: none is refused

// std::thread starts its threads from within the standard library.
bool IsStdThread(void* caller) {
  Dl_info info = {};
  return dladdr(caller, &info) != 0 && std::string_view(info.dli_fname).find("libstdc++") != std::string_view::npos;
}

}  // namespace

// In place of the C library's, for the whole program.
extern "C" int pthread_create(pthread_t* thread, const pthread_attr_t* attributes, void* (*run)(void*),
                              void* argument) {
  if (before_refusal >= 0 && IsStdThread(__builtin_return_address(0)) && before_refusal.fetch_sub(1) == 0)
    return EAGAIN;
  static const auto create = reinterpret_cast<decltype(&pthread_create)>(dlsym(RTLD_NEXT, "pthread_create"));
  return create(thread, attributes, run, argument);
}

namespace nibble::server {
namespace {

using testing::HasSubstr;

TEST_F(TenantsFixture, Row66_EveryThreadThatIsRefusedAtTheStartIsAnError) {
  StopDaemon();
  int refused = 0;
  for (;; ++refused) {
    ASSERT_LT(refused, 100);
    before_refusal = refused;
    absl::StatusOr<std::unique_ptr<Daemon>> daemon = Daemon::Start(TinyModel(engine_options_, &engine_), options_);
    before_refusal = -1;
    if (daemon.ok()) {
      daemon_ = *std::move(daemon);
      break;
    }
    ASSERT_THAT(daemon.status(), StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("threads"))) << refused;
  }
  EXPECT_GE(refused, 6) << "the loop, intake twice, adapters, the watches of streams and of files";
  stub_ = v1::Inference::NewStub(NewChannel());
}

TEST(TokenizerFiles, Row66_ARefusedThreadIsAnErrorAndTheNextCallTriesAgain) {
  const auto tokenizer = engine::Tokenizer::Create(TinyTokenizerData());
  ASSERT_THAT(tokenizer, IsOk());
  absl::Status refused, made = absl::UnknownError("not called");
  {
    TokenizerFiles files(**tokenizer);
    before_refusal = 0;
    files.Get([&](const absl::StatusOr<TokenizerFiles::Zip>& zip) { refused = zip.status(); });
    before_refusal = -1;
    EXPECT_THAT(refused, StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("thread")));
    files.Get([&](const absl::StatusOr<TokenizerFiles::Zip>& zip) { made = zip.status(); });
  }
  EXPECT_THAT(made, IsOk());
}

}  // namespace
}  // namespace nibble::server
