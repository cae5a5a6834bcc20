// Rows 65 and 69 with the real binary: how nibbled starts, refuses to start, and stops.
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

extern char** environ;

namespace nibble::server {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

// A small real model file with a tokenizer.
const std::string kModel = std::string(NIBBLE_TESTS_DIR) + "/golden/logits/tiny-llama-f32.gguf";

// nibbled as a child process.
class Process {
 public:
  explicit Process(const std::vector<std::string>& flags) {
    int out[2], err[2];
    EXPECT_EQ(pipe2(out, O_CLOEXEC) + pipe2(err, O_CLOEXEC), 0);
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, err[1], STDERR_FILENO);
    std::vector<std::string> words = {NIBBLED};
    words.insert(words.end(), flags.begin(), flags.end());
    std::vector<char*> argv;
    for (std::string& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    // What the test's own parent may have blocked stays out of it.
    posix_spawnattr_t attributes;
    posix_spawnattr_init(&attributes);
    sigset_t none;
    sigemptyset(&none);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    EXPECT_EQ(posix_spawn(&pid_, NIBBLED, &actions, &attributes, argv.data(), environ), 0);
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&actions);
    close(out[1]);
    close(err[1]);
    out_ = out[0];
    err_ = err[0];
  }
  ~Process() {
    if (!waited_) {
      kill(pid_, SIGKILL);
      Wait();
    }
    close(out_);
    close(err_);
  }

  // The ready line, or what was there when stdout closed.
  std::string ReadyLine() {
    std::string line;
    for (char c; read(out_, &c, 1) == 1 && c != '\n';) line += c;
    return line;
  }
  // All of stderr; returns when the process has closed it.
  std::string Errors() {
    std::string text;
    char buffer[1024];
    for (ssize_t n; (n = read(err_, buffer, sizeof(buffer))) > 0;) text.append(buffer, static_cast<size_t>(n));
    return text;
  }
  // Returns once main() has taken over SIGTERM, which it blocks in the first thread. False: it ended, or took too long.
  bool AwaitSignalsTaken() {
    const absl::Time give_up = absl::Now() + absl::Seconds(30);
    while (!TakesSignals()) {
      if (absl::Now() > give_up || Ended()) return false;
      absl::SleepFor(absl::Microseconds(200));
    }
    return true;
  }
  void Signal(int signal) { kill(pid_, signal); }
  // The exit status, or minus the signal that ended it.
  int Wait() {
    if (!waited_) waitpid(pid_, &status_, 0);
    waited_ = true;
    return WIFEXITED(status_) ? WEXITSTATUS(status_) : -WTERMSIG(status_);
  }

 private:
  // Asks first what runs: before exec, the child is the test with every signal blocked.
  bool TakesSignals() const {
    const std::string proc = "/proc/" + std::to_string(pid_);
    std::error_code error;
    if (!std::filesystem::equivalent(proc + "/exe", NIBBLED, error) || error) return false;
    std::ifstream status(proc + "/status");
    for (std::string line; std::getline(status, line);) {
      if (line.rfind("SigBlk:", 0) == 0) return (std::stoull(line.substr(7), nullptr, 16) >> (SIGTERM - 1) & 1) != 0;
    }
    return false;
  }
  bool Ended() {
    waited_ = waited_ || waitpid(pid_, &status_, WNOHANG) == pid_;
    return waited_;
  }

  pid_t pid_ = -1;
  int out_ = -1, err_ = -1;
  int status_ = 0;
  bool waited_ = false;
};

std::vector<std::string> Serving(std::vector<std::string> more = {}) {
  std::vector<std::string> flags = {"--model",          kModel,       "--listen=127.0.0.1:0", "--metrics=127.0.0.1:0",
                                    "--kv-memory=1MiB", "--threads=1"};
  flags.insert(flags.end(), more.begin(), more.end());
  return flags;
}

std::string FieldOf(const std::string& line, const std::string& key) {
  const size_t start = line.find(key + "=") + key.size() + 1;
  return line.substr(start, line.find(' ', start) - start);
}

void ExpectRefused(const std::vector<std::string>& flags, const std::string& reason, int status) {
  Process process(flags);
  EXPECT_EQ(process.ReadyLine(), "");
  const std::string errors = process.Errors();
  EXPECT_THAT(errors, HasSubstr(reason));
  EXPECT_EQ(std::count(errors.begin(), errors.end(), '\n'), 1) << errors;
  EXPECT_EQ(process.Wait(), status) << errors;
}

TEST(Nibbled, Row65_FirstSignalDrainsAndExitsWithZero) {
  Process process(Serving());
  EXPECT_THAT(process.ReadyLine(), StartsWith("ready grpc=127.0.0.1:"));
  process.Signal(SIGTERM);
  EXPECT_EQ(process.Wait(), 0);
}

TEST(Nibbled, Row65_SecondSignalStopsAtOnce) {
  Process process(Serving());
  EXPECT_THAT(process.ReadyLine(), StartsWith("ready "));
  const absl::Time start = absl::Now();
  process.Signal(SIGTERM);
  process.Signal(SIGINT);
  EXPECT_EQ(process.Wait(), 0);
  EXPECT_LT(absl::Now() - start, absl::Seconds(5));
}

TEST(Nibbled, Row65_SignalDuringLoadEndsCleanly) {
  for (int delay_ms = 0; delay_ms <= 20; delay_ms += 4) {
    Process process(Serving());
    ASSERT_TRUE(process.AwaitSignalsTaken()) << process.Wait() << ": " << process.Errors();
    absl::SleepFor(absl::Milliseconds(delay_ms));
    process.Signal(SIGTERM);
    EXPECT_EQ(process.Wait(), 0) << delay_ms;
  }
}

TEST(Nibbled, Row69_WrongUsageIsStatus2AndOneLine) {
  ExpectRefused({}, "--model", 2);
  ExpectRefused({"--no-such-flag"}, "no-such-flag", 2);
  ExpectRefused({"--model"}, "model", 2);
  ExpectRefused(Serving({"--threads=many"}), "threads", 2);
  ExpectRefused(Serving({"--threads=-1"}), "--threads", 2);
  ExpectRefused(Serving({"--max-queue=0"}), "--max-queue", 2);
  ExpectRefused(Serving({"--max-connections=0"}), "--max-connections", 2);
  ExpectRefused(Serving({"--max-connections=8193"}), "--max-connections", 2);
  ExpectRefused(Serving({"--step-tokens=8"}), "--step-tokens", 2);
  ExpectRefused(Serving({"--drain-timeout=-1s"}), "--drain-timeout", 2);
  ExpectRefused(Serving({"--kv=nope"}), "nope", 2);
  ExpectRefused(Serving({"--kv=klt2"}), "nibble calibrate", 2);
  ExpectRefused(Serving({"--weights=w3"}), "weights", 2);
  ExpectRefused(Serving({"--kv-memory=5parsecs"}), "kv-memory", 2);
  ExpectRefused(Serving({"word"}), "word", 2);
}

TEST(Nibbled, Row69_UnusableFileIsRefused) {
  ExpectRefused(Serving({"--model=/nonexistent.gguf"}), "/nonexistent.gguf", 2);
  ExpectRefused(Serving({"--model", std::string(NIBBLE_TESTS_DIR) + "/README.md"}), "GGUF", 1);
  ExpectRefused(Serving({"--kv=klt2", "--kv-calibration=/nonexistent.nibblekv"}), "/nonexistent.nibblekv", 2);
  ExpectRefused(Serving({"--kv=klt2", "--kv-calibration", kModel}), "tiny-llama-f32.gguf: magic", 1);
}

// A file that is gone with the test.
class ScratchFile {
 public:
  ScratchFile(const std::string& text, std::filesystem::perms permissions)
      : path_(testing::TempDir() + "/nibbled-XXXXXX") {
    close(mkstemp(path_.data()));
    std::ofstream(path_) << text;
    std::filesystem::permissions(path_, permissions);
  }
  ~ScratchFile() { std::filesystem::remove(path_); }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

TEST(Nibbled, Row69_UnusableIdentityIsRefused) {
  using std::filesystem::perms;
  const ScratchFile open("key", perms::owner_read | perms::others_read);
  const ScratchFile closed("no key", perms::owner_read);
  ExpectRefused(Serving({"--tls-cert", closed.path()}), "--tls-key", 2);
  ExpectRefused(Serving({"--tls-key", closed.path()}), "--tls-cert", 2);
  ExpectRefused(Serving({"--tls-client-ca", closed.path()}), "--tls-client-ca", 2);
  ExpectRefused(Serving({"--tls-cert", closed.path(), "--tls-key", open.path()}), "everyone may read the key", 1);
  ExpectRefused(Serving({"--tls-cert=/nonexistent.pem", "--tls-key", closed.path()}), "/nonexistent.pem", 2);
  ExpectRefused(Serving({"--tls-cert", closed.path(), "--tls-key", closed.path()}), "no certificate in PEM form", 2);
  ExpectRefused(Serving({"--tenants=/nonexistent.textproto"}), "/nonexistent.textproto", 2);
  ExpectRefused(Serving({"--tenants", closed.path()}), ":1:", 2);
  const ScratchFile subject("tenants { name: 'a' certificate_subjects: 'CN=a' }", perms::owner_read);
  ExpectRefused(Serving({"--tenants", subject.path()}), "client CA", 2);
}

TEST(Nibbled, Row69_TakenPortIsRefused) {
  Process first(Serving());
  const std::string line = first.ReadyLine();
  ExpectRefused(Serving({"--listen", FieldOf(line, "grpc")}), "cannot listen on", 1);
  ExpectRefused(Serving({"--metrics", FieldOf(line, "metrics")}), "cannot listen on", 1);
  ExpectRefused(Serving({"--listen=nowhere.invalid:1"}), "cannot listen on", 1);
}

}  // namespace
}  // namespace nibble::server
