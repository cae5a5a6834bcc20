// Row 66 of the robustness table: memory that ends, at every place where it is asked for, one after the other.
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <new>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/load_model.h"
#include "server/memory_reserve.h"
#include "tests/server/failing_allocation.h"
#include "tests/server/server_fixture.h"

namespace nibble::server {
namespace {

using grpc::StatusCode;

// Far more than a request or a load has: only ends a loop that would not.
constexpr int64_t kMostSites = 100'000;

class ServerOutOfMemory : public ServerFixture {
 protected:
  void SetUp() override {
    PutMemoryAside();
    options_.has_memory = [this] { return has_memory_ && RestoreMemoryReserve(); };
    ServerFixture::SetUp();
  }

  // A conversation with what a request can have: several choices, logprobs, stop strings, a constraint that is not
  // compiled yet.
  static v1::GenerateRequest AskForMuch(int64_t number = 0) {
    v1::GenerateRequest request;
    auto* message = request.mutable_chat()->add_messages();
    message->set_role("user");
    message->set_content(std::string(100, 'x'));
    request.mutable_sampling()->set_n(2);
    request.mutable_sampling()->set_temperature(0.0f);
    request.set_logprobs(2);
    request.mutable_stopping()->set_max_tokens(4);
    request.mutable_stopping()->add_stop_strings("a stop string that is longer than a small one");
    request.mutable_constraint()->set_regex(absl::StrCat("[a-z]{2,8}|", number));
    return request;
  }

  std::atomic<bool> has_memory_ = true;
};

// On every thread: gRPC's, intake and the loop, and the client's, which are in this process too.
TEST_F(ServerOutOfMemory, Row66_NoAllocationThatFailsEndsWhatIsServed) {
  const Reply whole = Generate(AskForMuch());
  ASSERT_TRUE(whole.status.ok()) << whole.status.error_message();
  int64_t sites = 0;
  for (bool failed = true; failed; ++sites) {
    ASSERT_LT(sites, kMostSites);
    FailAllocation(sites);
    const Reply reply = Generate(AskForMuch(1 + sites));
    failed = StopFailing();
    ASSERT_TRUE(reply.status.ok()) << "allocation " << sites << ": " << reply.status.error_message();
    ASSERT_EQ(reply.text, whole.text) << "allocation " << sites;
  }
  EXPECT_GT(sites, 500);
  RecordProperty("sites", static_cast<int>(sites));
}

TEST_F(ServerOutOfMemory, Row66_NewRequestsAreRefusedWhileTheReserveIsNotWhole) {
  engine_->Hold();
  grpc::ClientContext context;
  const auto running = stub_->Generate(&context, Ask("running", 4));
  v1::GenerateResponse event;
  ASSERT_TRUE(running->Read(&event));
  has_memory_ = false;
  const Reply refused = Generate(Ask("hello"));
  EXPECT_THAT(refused.status, GrpcStatusIs(StatusCode::RESOURCE_EXHAUSTED, "no memory is left"));
  EXPECT_NE(refused.pushback_ms, "");
  engine_->Release();
  EXPECT_TRUE(ReadAll(context, *running).status.ok());
  has_memory_ = true;
  EXPECT_TRUE(Generate(Ask("hello")).status.ok());
}

TEST(MemoryReserve, Row66_IsGivenBackBlockByBlockAndPutAsideAnew) {
  PutMemoryAside();
  const std::new_handler handler = std::get_new_handler();
  int blocks = 0;
  const auto take_all = [&] {
    for (;; ++blocks) handler();
  };
  EXPECT_THROW(take_all(), std::bad_alloc);
  EXPECT_GT(blocks, 8);
  rlimit before = {};
  getrlimit(RLIMIT_AS, &before);
  const rlimit none = {1 << 20, before.rlim_max};  // less than is in use
  setrlimit(RLIMIT_AS, &none);
  const bool without = RestoreMemoryReserve();
  setrlimit(RLIMIT_AS, &before);
  EXPECT_FALSE(without);
  EXPECT_TRUE(RestoreMemoryReserve());
  handler();  // there is something to take again
  EXPECT_TRUE(RestoreMemoryReserve());
}

// Status of a process that loads a model whose allocation `site` fails, and then ends with 0, or 2 where none failed.
int StatusOfLoad(const LoadOptions& options, int64_t site) {
  const pid_t child = fork();
  if (child == 0) {
    close(STDERR_FILENO);
    EndWhereMemoryEnds();
    FailAllocation(site);
    const bool loaded = LoadModel(options).ok();
    _exit(StopFailing() ? 0 : loaded ? 2 : 3);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

TEST(LoadModel, Row66_EveryAllocationThatFailsEndsTheLoadWithAReason) {
  LoadOptions options;
  options.path = NIBBLE_TESTS_DIR "/golden/logits/tiny-llama-quantized.gguf";
  options.engine.kv_memory_bytes = 1 << 20;
  EXPECT_EXIT((EndWhereMemoryEnds(), FailAllocation(100), (void)LoadModel(options)), testing::ExitedWithCode(1),
              "^nibbled: no memory is left\n$");
  int64_t sites = 0;
  for (int status = 1; status != 2; ++sites) {
    ASSERT_LT(sites, kMostSites);
    status = StatusOfLoad(options, sites);
    ASSERT_TRUE(status == 1 || status == 2) << "allocation " << sites << ": status " << status;
  }
  EXPECT_GT(sites, 500);
  RecordProperty("sites", static_cast<int>(sites));
}

}  // namespace
}  // namespace nibble::server
