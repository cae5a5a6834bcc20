// The virtual token counters against a twin that forgets nothing and recounts everything.
#include "scheduler/fair_share.h"

#include <map>
#include <random>
#include <string>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace nibble::sched {
namespace {

class NaiveTwin {
 public:
  void Join(const std::string& tenant, double weight) {
    if (live_[tenant] == 0) served_[tenant] = std::max(served_[tenant], Lift());
    ++live_[tenant];
    weight_[tenant] = weight;
  }
  void Leave(const std::string& tenant) {
    if (--live_[tenant] == 0) last_left_ = tenant;
  }
  void Charge(const std::string& tenant, int64_t prompt, int64_t generated) {
    served_[tenant] += static_cast<double>(prompt) / weight_[tenant];
    served_[tenant] += 2.0 * static_cast<double>(generated) / weight_[tenant];
  }
  double served(const std::string& tenant) { return served_[tenant]; }
  int64_t live(const std::string& tenant) { return live_[tenant]; }

 private:
  double Lift() {
    const std::string* least = nullptr;
    for (const auto& [tenant, live] : live_) {
      if (live > 0 && (least == nullptr || served_[tenant] < served_[*least])) least = &tenant;
    }
    return least != nullptr ? served_[*least] : served_[last_left_];
  }

  std::map<std::string, double> served_, weight_;
  std::map<std::string, int64_t> live_;
  std::string last_left_;
};

TEST(FairShare, AgreesWithTheNaiveTwinUnderARandomWalk) {
  for (uint32_t seed = 0; seed < 50; ++seed) {
    std::mt19937 random(seed);
    FairShare share;
    NaiveTwin twin;
    std::map<std::string, FairAccount*> accounts;  // of those that are there
    for (int step = 0; step < 2000; ++step) {
      const std::string tenant = absl::StrCat("t", random() % 40);
      const uint32_t verb = random() % 4;
      if (verb == 0) {
        const double weight = 0.5 * (1 + random() % 6);
        accounts[tenant] = share.Join(tenant, weight);
        twin.Join(tenant, weight);
      } else if (accounts.contains(tenant) && verb == 1) {
        share.Leave(*accounts[tenant]);
        twin.Leave(tenant);
        if (twin.live(tenant) == 0) accounts.erase(tenant);
      } else if (accounts.contains(tenant)) {
        const int64_t prompt = random() % 500;
        const int64_t generated = random() % 10;
        accounts[tenant]->ChargePrompt(prompt);
        accounts[tenant]->ChargeGenerated(generated);
        twin.Charge(tenant, prompt, generated);
      }
      for (const auto& [name, account] : accounts) ASSERT_EQ(account->served, twin.served(name)) << seed << " " << step;
    }
  }
}

TEST(FairShare, Row42_KeepsNoAccountOfTenantsThatLeftWithoutDebt) {
  FairShare share;
  FairAccount* stays = share.Join("stays", 1.0);
  stays->ChargePrompt(1000);
  for (int i = 0; i < 10'000; ++i) share.Leave(*share.Join(absl::StrCat("t", i), 1.0));
  EXPECT_LE(share.size(), 2);
}

TEST(FairShare, WhoLeavesInDebtIsStillInDebtWhenItComesBack) {
  FairShare share;
  share.Join("stays", 1.0);
  FairAccount* greedy = share.Join("greedy", 1.0);
  greedy->ChargeGenerated(500);
  share.Leave(*greedy);
  share.Leave(*share.Join("another", 1.0));
  EXPECT_EQ(share.Join("greedy", 1.0)->served, 1000.0);
}

TEST(FairShare, AnAbsenceEarnsNothing) {
  FairShare share;
  FairAccount* busy = share.Join("busy", 1.0);
  share.Leave(*share.Join("quiet", 1.0));
  busy->ChargePrompt(700);
  EXPECT_EQ(share.Join("quiet", 1.0)->served, 700.0);
}

}  // namespace
}  // namespace nibble::sched
