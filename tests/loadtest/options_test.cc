#include "loadtest/options.h"

#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "absl/flags/reflection.h"
#include "gmock/gmock.h"
#include "tests/base/status_matchers.h"

namespace nibble::loadtest {
namespace {

using testing::HasSubstr;

// Flags are process state: each parse starts from the defaults and leaves them.
absl::StatusOr<Options> Parse(std::vector<std::string> words) {
  absl::FlagSaver saver;
  return ParseOptions(words);
}

TEST(Options, BothWaysOfWritingAValue) {
  const absl::StatusOr<Options> options =
      Parse({"--target=grpc://a:1", "--max-concurrency", "8", "--rate", "inf", "--cancel-rate=0.5", "--seed=9"});
  ASSERT_THAT(options, IsOk());
  EXPECT_EQ(options->target, "grpc://a:1");
  EXPECT_EQ(options->max_concurrency, 8);
  EXPECT_TRUE(std::isinf(options->rate));
  EXPECT_EQ(options->cancel_rate, 0.5);
  EXPECT_EQ(options->seed, 9u);
}

TEST(Options, DefaultsAreValidButForTheTarget) {
  EXPECT_THAT(Parse({}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("--target")));
  EXPECT_THAT(Parse({"--target=x"}), IsOk());
}

TEST(Options, RefusalsNameTheFlag) {
  const struct {
    const char* word;
    const char* named;
  } cases[] = {
      {"--requests=0", "--requests"},
      {"--rate=0", "--rate"},
      {"--rate=nan", "--rate"},
      {"--burstiness=0", "--burstiness"},
      {"--max-concurrency=-1", "--max-c"},
      {"--warmup=-1", "--warmup"},
      {"--workload=poems", "--workload"},
      {"--scenario=/no/such/file", "--scenario"},
      {"--turns=0", "--turns"},
      {"--think-time=-1s", "--think-time"},
      {"--think-time=5", "--think-time"},
      {"--adapter-mix=all", "--adapter-mix"},
      {"--tenants=/no/such/file", "--tenants"},
      {"--tls-ca=/no/such/file", "--tls-ca"},
      {"--stall-rate=2", "--stall-rate"},
      {"--stall-time=0s", "--stall-time"},
      {"--workload=trace", "--workload-file"},
      {"--workload-file=/no/such/file", "--workload-file"},
      {"--ramp-from=-1", "--ramp-from"},
      {"--ramp-from=1", "--ramp-from"},
      {"--prefix-groups=0", "--prefix-groups"},
      {"--prefix-tokens=-1", "--prefix-tokens"},
      {"--slo=ttft", "--slo"},
      {"--steady-state=5s", "--steady-state"},
      {"--metrics-url=127.0.0.1:9090", "--metrics-url"},
      {"--sweep", "--sweep"},
      {"--input-tokens=0", "--input-tokens"},
      {"--output-tokens=0", "--output-t"},
      {"--cancel-rate=1.5", "--cancel-rate"},
      {"--cancel-rate=nan", "--cancel-r"},
      {"--requests=many", "--requests"},
      {"--no-such-flag=1", "--no-such"},
      {"--seed", "--seed"},
      {"positional", "positional"},
  };
  for (const auto& c : cases) {
    EXPECT_THAT(Parse({"--target=x", c.word}), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(c.named)));
  }
}

TEST(Options, AClientCertificateNeedsItsKeyAndACa) {
  const std::string path = testing::TempDir() + "/pem." + std::to_string(getpid());
  std::ofstream(path) << "PEM";
  const std::string ca = "--tls-ca=" + path, certificate = "--tls-cert=" + path, key = "--tls-key=" + path;
  const auto refused = [](const std::string& why) {
    return StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(why));
  };
  EXPECT_THAT(Parse({"--target=grpc://a:1", ca, certificate}), refused("--tls-cert, --tls-key: one is nothing"));
  EXPECT_THAT(Parse({"--target=grpc://a:1", ca, key}), refused("--tls-cert, --tls-key: one is nothing"));
  EXPECT_THAT(Parse({"--target=grpc://a:1", certificate, key}), refused("--tls-cert: needs --tls-ca"));
  EXPECT_THAT(Parse({"--target=grpc://a:1", ca, certificate, "--tls-key=/no/such/file"}), refused("--tls-key: cannot"));
  EXPECT_THAT(Parse({"--target=grpc://a:1", ca, "--tls-cert=/no/such/file", key}), refused("--tls-cert: cannot"));
  EXPECT_THAT(Parse({"--target=http://a:1", ca, certificate, key}), refused("--tls-ca: goes with a gRPC target"));
  const absl::StatusOr<Options> options = Parse({"--target=grpc://a:1", ca, certificate, key});
  ASSERT_THAT(options, IsOk());
  EXPECT_EQ(options->tls.ca + options->tls.certificate + options->tls.key, "PEMPEMPEM");
  std::remove(path.c_str());
}

TEST(Options, NoAdaptersOverAContractThatNamesNone) {
  EXPECT_THAT(Parse({"--target=vllm-grpc://a:1", "--adapters=x"}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("--adapters")));
  EXPECT_THAT(Parse({"--target=grpc://a:1", "--adapters=x"}), IsOk());
}

TEST(Options, AScenarioCountsWhereTheCommandLineDoesNotSayOtherwise) {
  const std::string path = testing::TempDir() + "/scenario." + std::to_string(getpid());
  std::ofstream(path) << "# a comment\n\n--requests 7\n--seed=3 --target=y\n";
  absl::StatusOr<Options> options = Parse({"--seed=4", "--scenario", path});
  ASSERT_THAT(options, IsOk());
  EXPECT_EQ(options->requests, 7);
  EXPECT_EQ(options->seed, 4u);
  EXPECT_EQ(options->target, "y");
  std::ofstream(path) << "--target=y\n--speed 3\n";
  EXPECT_THAT(Parse({"--scenario", path}),
              StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(path + ":2: --speed: unknown flag")));
  std::remove(path.c_str());
}

// A scenario leaves the target open, and nothing else.
TEST(Options, EveryScenarioOfTheRepositoryIsValid) {
  int count = 0;
  for (const auto& entry : std::filesystem::directory_iterator(NIBBLE_TESTS_DIR "/../loadtest/scenarios")) {
    if (entry.path().extension() != ".flags") continue;
    ++count;
    EXPECT_THAT(Parse({"--target=x", "--scenario", entry.path().string()}), IsOk());
    EXPECT_THAT(Parse({"--scenario", entry.path().string()}),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("--target")));
  }
  EXPECT_GE(count, 7);
}

TEST(Options, AFlagThatIsTrueNeedsNoValue) {
  const absl::StatusOr<Options> options = Parse({"--sweep", "--slo", "ttft:200ms", "--target=x"});
  ASSERT_THAT(options, IsOk());
  EXPECT_TRUE(options->sweep);
  EXPECT_EQ(options->slo->ttft_ms, 200);
}

TEST(Options, HelpNamesEveryFlagAsWritten) {
  for (const char* flag : {"--target", "--max-concurrency", "--requests-jsonl", "--burstiness"}) {
    EXPECT_THAT(HelpText(), HasSubstr(flag));
  }
}

TEST(Options, TheReadmeHasARowForEveryFlag) {
  std::ifstream file(NIBBLE_TESTS_DIR "/../loadtest/README.md");
  const std::string readme((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  std::istringstream help(HelpText());
  int count = 0;
  for (std::string word; help >> word;) {
    if (word.substr(0, 2) != "--" || word == "--target") continue;
    const std::string flag = word.substr(0, word.find_first_not_of("abcdefghijklmnopqrstuvwxyz-"));
    EXPECT_THAT(readme, HasSubstr("| `" + flag)) << flag;
    ++count;
  }
  EXPECT_GT(count, 25);
}

}  // namespace
}  // namespace nibble::loadtest
