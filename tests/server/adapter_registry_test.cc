// Which adapters are in memory, and rows 60 to 63 of the robustness table for the folder they come from.
#include "server/adapter_registry.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <map>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "engine/weights/sha256.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/base/status_matchers.h"
#include "tests/server/scripted_adapters.h"
#include "tests/server/scripted_engine.h"

namespace nibble::server {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class Registry : public testing::Test {
 protected:
  void Open(int64_t memory_bytes) {
    registry_ = adapters_.Registry(memory_bytes, [this] { return ++now_; });
  }
  static char LetterOf(const AdapterLease& lease) {
    return static_cast<const ScriptedAdapter*>(lease.version()->adapter.get())->letter;
  }
  char Use(const std::string& name) {
    const absl::StatusOr<AdapterLease> lease = registry_->Acquire(name);
    EXPECT_THAT(lease, IsOk());
    return lease.ok() ? LetterOf(*lease) : '?';
  }
  std::vector<std::string> Loaded() const {
    std::vector<std::string> names;
    const std::vector<AdapterInfo> infos = *registry_->List();
    for (const AdapterInfo& info : infos) {
      if (info.state != AdapterState::kOnDisk) names.push_back(info.name);
    }
    return names;
  }

  ScriptedAdapters adapters_;
  std::unique_ptr<AdapterRegistry> registry_;
  sched::Nanos now_ = 0;
};

TEST_F(Registry, LoadsOnFirstUseAndKeeps) {
  adapters_.Write("first", 'a');
  Open(10'000);
  EXPECT_FALSE((*registry_->TryAcquire("first")).has_value());
  EXPECT_EQ(Use("first"), 'a');
  EXPECT_TRUE((*registry_->TryAcquire("first")).has_value());
  adapters_.Write("first", 'b');
  EXPECT_EQ(Use("first"), 'a') << "a version is what it was when it was loaded";
  EXPECT_EQ(registry_->Counts().loads, 1);
  EXPECT_EQ(registry_->Acquire("second").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(Registry, NamesAVersionByItsWholeFile) {
  const std::string text = "a 1000" + std::string(600'000, ' ');
  adapters_.WriteText("large", text);
  Open(1'000'000);
  const absl::StatusOr<AdapterLease> lease = registry_->Acquire("large");
  ASSERT_THAT(lease, IsOk());
  EXPECT_EQ(lease->version()->sha256, engine::Sha256Hex(text));
}

TEST_F(Registry, EvictsTheLeastRecentlyUsedThatIsIdleAndNotPinned) {
  for (const char letter : {'a', 'b', 'c', 'd', 'e'}) adapters_.Write(std::string(1, letter), letter);
  Open(3000);
  EXPECT_THAT(registry_->LoadNow("a", /*pinned=*/true), IsOk());
  EXPECT_EQ(Use("b"), 'b');
  EXPECT_EQ(Use("c"), 'c');
  EXPECT_EQ(Use("b"), 'b');
  EXPECT_EQ(Use("d"), 'd');
  EXPECT_THAT(Loaded(), ElementsAre("a", "b", "d"));
  const AdapterLease in_use = *registry_->Acquire("b");
  EXPECT_EQ(Use("d"), 'd');
  EXPECT_EQ(Use("e"), 'e') << "b was used before d, but a request runs with it";
  EXPECT_THAT(Loaded(), ElementsAre("a", "b", "e"));
  EXPECT_EQ(registry_->Counts().evictions, 2);
}

TEST_F(Registry, Row62_OverTheBudgetIsRefusedAndWhatIsLoadedServesOn) {
  adapters_.Write("a", 'a', 600);
  adapters_.Write("b", 'b', 600);
  Open(1000);
  {
    const AdapterLease lease = *registry_->Acquire("a");
    EXPECT_THAT(registry_->Acquire("b").status(),
                StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("no memory is left")));
    adapters_.Write("a", 'x', 600);
    EXPECT_THAT(registry_->LoadNow("a", false).status(),
                StatusIs(absl::StatusCode::kResourceExhausted, HasSubstr("adapter: ")));
    EXPECT_EQ(Use("a"), 'a') << "all or nothing";
  }
  EXPECT_EQ(Use("b"), 'b');
  adapters_.Write("b", 'y', 1001);
  EXPECT_EQ(registry_->LoadNow("b", false).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(Use("b"), 'b');
}

TEST_F(Registry, Row62_WhatCanNeverFitIsReadOnce) {
  adapters_.Write("huge", 'h', 1001);
  Open(1000);
  for (int i = 0; i < 3; ++i) {
    EXPECT_EQ(registry_->Acquire("huge").status().code(), absl::StatusCode::kResourceExhausted);
  }
  EXPECT_EQ(registry_->Counts().failed_loads, 1);
}

TEST_F(Registry, Row62_ReplacedAndUnloadedVersionsLastAsLongAsTheirRequests) {
  adapters_.Write("a", 'a');
  Open(3000);
  std::vector<AdapterLease> leases;
  leases.push_back(*registry_->Acquire("a"));
  adapters_.Write("a", 'b');
  EXPECT_THAT(registry_->LoadNow("a", false), IsOk());
  leases.push_back(*registry_->Acquire("a"));
  EXPECT_THAT(registry_->Unload("a"), IsOk());
  EXPECT_EQ(registry_->Unload("a").code(), absl::StatusCode::kNotFound);
  adapters_.Write("a", 'c');
  leases.push_back(*registry_->Acquire("a"));
  EXPECT_EQ(LetterOf(leases[0]), 'a');
  EXPECT_EQ(LetterOf(leases[1]), 'b');
  EXPECT_EQ(LetterOf(leases[2]), 'c');
  EXPECT_EQ(registry_->Counts().bytes, 3000) << "what requests run with counts";
  adapters_.Write("z", 'z');
  EXPECT_EQ(registry_->Acquire("z").status().code(), absl::StatusCode::kResourceExhausted);
  leases.clear();
  EXPECT_EQ(registry_->Counts().bytes, 1000);
}

TEST_F(Registry, AFailureIsToldAgainWithoutReadingUntilTheFileChanges) {
  adapters_.WriteText("bad", "?");
  Open(1000);
  EXPECT_THAT(registry_->Acquire("bad").status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("no scripted adapter")));
  EXPECT_EQ(registry_->TryAcquire("bad").status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(registry_->Acquire("bad").status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(registry_->Counts().failed_loads, 1);
  adapters_.Write("bad", 'g');
  EXPECT_EQ(Use("bad"), 'g');
}

TEST_F(Registry, Row30_ThreeFaultsAreQuarantine) {
  adapters_.Write("a", 'a');
  Open(1000);
  for (int i = 0; i < 3; ++i) {
    AdapterLease lease = *registry_->Acquire("a");
    lease.NoteFault();
  }
  EXPECT_THAT(registry_->Acquire("a").status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("quarantine")));
  EXPECT_EQ(registry_->List()->front().state, AdapterState::kQuarantined);
  adapters_.Write("b", 'b');
  EXPECT_EQ(Use("b"), 'b') << "an eviction";
  EXPECT_THAT(registry_->Acquire("a").status(),
              StatusIs(absl::StatusCode::kFailedPrecondition, HasSubstr("quarantine")));
  EXPECT_THAT(registry_->LoadNow("a", false), IsOk());
  EXPECT_EQ(Use("a"), 'a');
}

TEST(AdapterName, Row60_IsOneComponentOfAPath) {
  for (const char* name : {"a", "tenant-1.v2_x", "A", "9"}) EXPECT_TRUE(IsAdapterName(name)) << name;
  EXPECT_TRUE(IsAdapterName(std::string(64, 'a')));
  EXPECT_FALSE(IsAdapterName(std::string(65, 'a')));
  for (const char* name : {"", "../x", "/etc/passwd", "a/b", ".", "..", ".hidden", "a b", "a\n", "ä", "a%2f"}) {
    EXPECT_FALSE(IsAdapterName(name)) << name;
  }
  EXPECT_FALSE(IsAdapterName(std::string_view("a\0b", 3)));
}

TEST_F(Registry, Row60_OnlyARegularFileWithASingleNameIsRead) {
  adapters_.Write("real", 'r');
  std::filesystem::create_symlink(adapters_.PathOf("real"), adapters_.PathOf("link"));
  std::filesystem::create_directory(adapters_.PathOf("folder"));
  ASSERT_EQ(mkfifo(adapters_.PathOf("fifo").c_str(), 0600), 0);
  Open(1000);
  for (const char* name : {"link", "folder", "fifo"}) {
    EXPECT_THAT(registry_->Acquire(name).status(),
                StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("not a regular file")))
        << name;
  }
  EXPECT_EQ(registry_->List()->size(), 1u);
  std::filesystem::create_hard_link(adapters_.PathOf("real"), adapters_.PathOf("hard"));
  EXPECT_EQ(registry_->Acquire("hard").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST_F(Registry, Row61_WhatHappensToTheFileLaterHasNoEffect) {
  adapters_.Write("a", 'a');
  Open(1000);
  const AdapterLease lease = *registry_->Acquire("a");
  const std::string hash = lease.version()->sha256;
  std::filesystem::resize_file(adapters_.PathOf("a"), 0);
  EXPECT_EQ(LetterOf(lease), 'a');
  EXPECT_EQ(Use("a"), 'a');
  std::filesystem::remove(adapters_.PathOf("a"));
  EXPECT_EQ(Use("a"), 'a');
  EXPECT_EQ(registry_->LoadNow("a", false).status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(registry_->Acquire("a")->version()->sha256, hash);
}

TEST_F(Registry, Row63_WithoutDescriptorsALoadIsRefusedAndTheLoadedServeOn) {
  adapters_.Write("a", 'a');
  adapters_.Write("b", 'b');
  Open(10'000);
  EXPECT_EQ(Use("a"), 'a');
  struct rlimit limit = {};
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &limit), 0);
  const int next = open("/dev/null", O_RDONLY);
  close(next);
  const struct rlimit none = {static_cast<rlim_t>(next), limit.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const absl::Status refused = registry_->Acquire("b").status();
  const char still = Use("a");
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
  EXPECT_EQ(refused.code(), absl::StatusCode::kResourceExhausted) << refused;
  EXPECT_EQ(still, 'a');
  EXPECT_EQ(Use("b"), 'b') << "a shortage is not remembered";
}

// The naive twin: what is loaded, by the rules read off the header, without memory of anything but names and times.
struct Twin {
  struct Loaded {
    char letter;
    int64_t bytes;
    bool pinned;
    int64_t last_use;
  };
  std::map<std::string, Loaded> loaded;
  int64_t memory;

  int64_t bytes() const {
    int64_t sum = 0;
    for (const auto& [name, one] : loaded) sum += one.bytes;
    return sum;
  }
  bool Load(const std::string& name, Loaded one) {
    std::map<std::string, Loaded> next = loaded;
    next.erase(name);
    Twin after = {next, memory};
    while (after.bytes() + one.bytes > memory) {
      std::string oldest;
      for (const auto& [candidate, other] : after.loaded) {
        if (!other.pinned && (oldest.empty() || other.last_use < after.loaded.at(oldest).last_use)) oldest = candidate;
      }
      if (oldest.empty()) break;
      after.loaded.erase(oldest);
    }
    if (after.bytes() + one.bytes > memory) return false;
    loaded = after.loaded;
    loaded[name] = one;
    return true;
  }
};

TEST_F(Registry, ActsAsItsTwinOverRandomCalls) {
  std::mt19937 random(5);
  Open(5000);
  Twin twin = {{}, 5000};
  std::map<std::string, std::pair<char, int64_t>> files;
  int64_t time = 0;
  for (int call = 0; call < 3000; ++call) {
    const std::string name(1, static_cast<char>('a' + random() % 8));
    ++time;
    switch (random() % 4) {
      case 0: {
        files[name] = {static_cast<char>('a' + random() % 26), 500 + static_cast<int64_t>(random() % 2000)};
        adapters_.Write(name, files[name].first, files[name].second);
        break;
      }
      case 1: {
        const auto loaded = twin.loaded.find(name);
        const absl::StatusOr<AdapterLease> lease = registry_->Acquire(name);
        if (loaded != twin.loaded.end()) {
          loaded->second.last_use = time;
        } else if (files.contains(name)) {
          const bool fits = twin.Load(name, {files[name].first, files[name].second, false, time});
          EXPECT_EQ(lease.ok(), fits) << lease.status();
        }
        ASSERT_EQ(lease.ok(), twin.loaded.contains(name)) << lease.status();
        if (lease.ok()) {
          EXPECT_EQ(LetterOf(*lease), twin.loaded.at(name).letter);
        }
        break;
      }
      case 2: {
        const bool pinned = random() % 8 == 0;
        const absl::Status status = registry_->LoadNow(name, pinned).status();
        const bool fits =
            files.contains(name) && twin.Load(name, {files[name].first, files[name].second, pinned, time});
        EXPECT_EQ(status.ok(), fits) << status;
        break;
      }
      default:
        EXPECT_EQ(registry_->Unload(name).ok(), twin.loaded.erase(name) == 1);
    }
    std::vector<std::string> names;
    for (const auto& [loaded, one] : twin.loaded) names.push_back(loaded);
    ASSERT_EQ(Loaded(), names) << call;
    ASSERT_EQ(registry_->Counts().bytes, twin.bytes());
  }
}

TEST_F(Registry, Row62_ManyThreadsLoadUseAndUnload) {
  for (const char letter : {'a', 'b', 'c'}) adapters_.Write(std::string(1, letter), letter);
  registry_ = adapters_.Registry(2000, [] { return sched::Nanos{0}; });
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([this, t, &wrong] {
      std::mt19937 random(static_cast<uint32_t>(t));
      for (int i = 0; i < 500; ++i) {
        const std::string name(1, static_cast<char>('a' + random() % 3));
        if (random() % 4 == 0) registry_->Unload(name).IgnoreError();
        if (random() % 4 == 0) registry_->LoadNow(name, false).IgnoreError();
        absl::StatusOr<AdapterLease> lease = registry_->Acquire(name);
        if (!lease.ok()) {
          wrong += !absl::IsResourceExhausted(lease.status());
          continue;
        }
        lease->Started();
        wrong += LetterOf(*lease) != name[0];
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  const AdapterCounts counts = registry_->Counts();
  EXPECT_LE(counts.bytes, 2000);
  EXPECT_TRUE(counts.running.empty() && counts.waiting.empty());
}

}  // namespace
}  // namespace nibble::server
