#include "engine/tools/command.h"

#include "absl/flags/flag.h"
#include "absl/flags/reflection.h"
#include "gmock/gmock.h"
#include "tests/base/status_matchers.h"

ABSL_FLAG(std::string, cow_name, "Berta", "name of the cow");
ABSL_FLAG(int32_t, legs, 4, "how many");
ABSL_FLAG(bool, milk, false, "gives milk");
ABSL_FLAG(int32_t, foreign, 0, "of another command");

namespace nibble::engine {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

absl::Status g_result;
std::vector<std::string> g_positionals;

absl::Status Run(const std::vector<std::string>& positionals) {
  g_positionals = positionals;
  return g_result;
}

Command Cow() { return {"cow", "Milks a cow.", "FIELD", {"cow-name", "legs", "milk"}, 0, 1, Run}; }

absl::StatusOr<std::vector<std::string>> Parse(std::vector<std::string> words) {
  std::vector<char*> args;
  for (std::string& word : words) args.push_back(word.data());
  return ParseCommandLine(Cow(), args);
}

int RunCow(std::vector<std::string> words, std::string* out = nullptr, std::string* err = nullptr) {
  words.insert(words.begin(), "farm");
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  const std::vector<Command> commands = {Cow(), {"sow", "Feeds a sow.", "", {"foreign"}, 0, 0, Run}};
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  const int status = RunSubcommand("farm", commands, static_cast<int>(argv.size()), argv.data());
  const std::string stdout_text = testing::internal::GetCapturedStdout();
  const std::string stderr_text = testing::internal::GetCapturedStderr();
  if (out != nullptr) *out = stdout_text;
  if (err != nullptr) *err = stderr_text;
  return status;
}

class CommandLine : public testing::Test {
 private:
  absl::FlagSaver saver_;
};

TEST_F(CommandLine, ReadsFlagsInEveryForm) {
  ASSERT_THAT(Parse({"--cow-name=Ida", "--legs", "3", "--milk", "meadow"}), IsOk());
  EXPECT_EQ(absl::GetFlag(FLAGS_cow_name), "Ida");
  EXPECT_EQ(absl::GetFlag(FLAGS_legs), 3);
  EXPECT_TRUE(absl::GetFlag(FLAGS_milk));
  ASSERT_THAT(Parse({"--cow_name", "a=b", "--nomilk", "--legs=-1"}), IsOk());
  EXPECT_EQ(absl::GetFlag(FLAGS_cow_name), "a=b");
  EXPECT_EQ(absl::GetFlag(FLAGS_legs), -1);
  EXPECT_FALSE(absl::GetFlag(FLAGS_milk));
}

TEST_F(CommandLine, TwoDashesEndTheFlags) {
  const auto positionals = Parse({"--legs=2", "--", "--legs=9"});
  ASSERT_THAT(positionals, IsOk());
  EXPECT_THAT(*positionals, ElementsAre("--legs=9"));
  EXPECT_EQ(absl::GetFlag(FLAGS_legs), 2);
}

TEST_F(CommandLine, RefusesWhatItDoesNotKnow) {
  const struct {
    std::vector<std::string> words;
    const char* message;
  } kCases[] = {
      {{"--horns=2"}, "unknown flag --horns"}, {{"--nolegs"}, "unknown flag --nolegs"},
      {{"--foreign=1"}, "no flag --foreign"},  {{"-x"}, "unknown flag -x"},
      {{"--legs"}, "--legs needs a value"},    {{"--legs=many"}, "--legs=many"},
      {{"--milk=maybe"}, "--milk=maybe"},      {{"one", "two"}, "unexpected argument \"two\""},
  };
  for (const auto& c : kCases) {
    EXPECT_THAT(Parse(c.words), StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr(c.message)));
  }
}

TEST_F(CommandLine, HelpListsTheCommandsOwnFlagsOnly) {
  std::string out;
  EXPECT_EQ(RunCow({"cow", "--legs=junk", "--help"}, &out), 0);
  EXPECT_THAT(out, AllOf(HasSubstr("usage: farm cow FIELD"), HasSubstr("--cow-name  name of the cow (default Berta)"),
                         HasSubstr("--milk"), Not(HasSubstr("foreign"))));
}

TEST_F(CommandLine, TheProgramsHelpListsTheCommands) {
  std::string out;
  EXPECT_EQ(RunCow({"--help"}, &out), 0);
  EXPECT_THAT(out, AllOf(HasSubstr("cow"), HasSubstr("Feeds a sow.")));
}

TEST_F(CommandLine, ExitStatusSaysWhoseFaultItWas) {
  const struct {
    absl::Status result;
    int status;
  } kCases[] = {{absl::OkStatus(), 0},
                {absl::InvalidArgumentError("x"), 2},
                {absl::NotFoundError("x"), 2},
                {absl::PermissionDeniedError("x"), 2},
                {absl::FailedPreconditionError("x"), 1},
                {absl::ResourceExhaustedError("x"), 1},
                {absl::InternalError("x"), 1}};
  for (const auto& c : kCases) {
    g_result = c.result;
    EXPECT_EQ(RunCow({"cow", "meadow"}), c.status) << c.result;
    EXPECT_THAT(g_positionals, ElementsAre("meadow"));
  }
  g_result = absl::OkStatus();
}

TEST_F(CommandLine, AFailureIsOneLineOnStderr) {
  std::string err;
  g_result = absl::InternalError("first\nsecond");
  EXPECT_EQ(RunCow({"cow"}, nullptr, &err), 1);
  EXPECT_EQ(err, "farm cow: first second\n");
  g_result = absl::OkStatus();
  EXPECT_EQ(RunCow({"hen"}, nullptr, &err), 2);
  EXPECT_EQ(err, "farm: unknown command \"hen\"; see --help\n");
  EXPECT_EQ(RunCow({}, nullptr, &err), 2);
  EXPECT_EQ(std::count(err.begin(), err.end(), '\n'), 1);
}

}  // namespace
}  // namespace nibble::engine
