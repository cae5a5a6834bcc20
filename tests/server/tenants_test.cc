// What a tenants file may say, and how its errors are told.
#include "server/tenants.h"

#include <string>

#include "absl/strings/str_cat.h"
#include "engine/weights/sha256.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/base/status_matchers.h"
#include "tests/server/tenants_fixture.h"

namespace nibble::server {
namespace {

using testing::HasSubstr;

constexpr Capacity kCapacity = {.kv_pages = 100, .queue = 1024};

absl::StatusOr<std::shared_ptr<const Tenants>> Parse(const std::string& text) {
  return Tenants::Parse(text, "t.textproto", kCapacity);
}

void ExpectRefused(const std::string& text, const std::string& message) {
  EXPECT_THAT(Parse(text).status(), StatusIs(absl::StatusCode::kInvalidArgument,
                                             testing::AllOf(HasSubstr("t.textproto"), HasSubstr(message))))
      << text;
}

TEST(Tenants, EveryFieldArrives) {
  const auto tenants = Parse(TenantText("a", "key", R"(
      certificate_subjects: "CN=a" adapters: "x" weight: 2.5 pool: "team" admin: true
      limits { requests_per_minute: 6 tokens_per_minute: 7 concurrent_sequences: 8 queue_share: 0.5 kv_share: 0.25 })"));
  ASSERT_THAT(tenants.status(), IsOk());
  const Caller* caller = (*tenants)->FindByKey("key");
  ASSERT_NE(caller, nullptr);
  EXPECT_EQ((*tenants)->FindBySubject("CN=a"), caller);
  EXPECT_EQ(caller->tenant, "a");
  EXPECT_TRUE(caller->admin);
  EXPECT_TRUE(caller->MayUseAdapter("x"));
  EXPECT_FALSE(caller->MayUseAdapter("y"));
  EXPECT_EQ(caller->terms.weight, 2.5);
  EXPECT_EQ(caller->terms.requests_per_minute, 6);
  EXPECT_EQ(caller->terms.tokens_per_minute, 7);
  EXPECT_EQ(caller->terms.max_sequences, 8);
  EXPECT_EQ(caller->terms.max_waiting, 512);
  EXPECT_EQ(caller->terms.max_pages, 25);
  EXPECT_EQ(caller->terms.pool, "team");
}

TEST(Tenants, WhatIsNotGivenIsNotLimitedButTheQueue) {
  const auto tenants = Parse(TenantText("a", "key"));
  ASSERT_THAT(tenants.status(), IsOk());
  const Caller& caller = *(*tenants)->FindByKey("key");
  EXPECT_FALSE(caller.admin);
  EXPECT_FALSE(caller.MayUseAdapter("x"));
  EXPECT_EQ(caller.terms.weight, 1.0);
  EXPECT_EQ(caller.terms.requests_per_minute, sched::kUnlimited);
  EXPECT_EQ(caller.terms.tokens_per_minute, sched::kUnlimited);
  EXPECT_EQ(caller.terms.max_sequences, sched::kUnlimited);
  EXPECT_EQ(caller.terms.max_pages, sched::kUnlimited);
  EXPECT_EQ(caller.terms.max_waiting, 256);
}

TEST(Tenants, AStarIsAllAdapters) {
  const auto tenants = Parse(TenantText("a", "key", "adapters: '*'"));
  ASSERT_THAT(tenants.status(), IsOk());
  EXPECT_TRUE((*tenants)->FindByKey("key")->MayUseAdapter("anything"));
}

TEST(Tenants, ASmallShareIsAtLeastOne) {
  const auto tenants = Parse(TenantText("a", "key", "limits { queue_share: 1e-9 kv_share: 1e-9 }"));
  ASSERT_THAT(tenants.status(), IsOk());
  EXPECT_EQ((*tenants)->callers()[0].terms.max_waiting, 1);
  EXPECT_EQ((*tenants)->callers()[0].terms.max_pages, 1);
}

TEST(Tenants, Row31_OnlyTheWholeKeyFits) {
  const auto tenants = Parse(TenantText("a", "key-one") + TenantText("b", "key-two"));
  ASSERT_THAT(tenants.status(), IsOk());
  EXPECT_EQ((*tenants)->FindByKey("key-one")->tenant, "a");
  EXPECT_EQ((*tenants)->FindByKey("key-two")->tenant, "b");
  for (const std::string& wrong : {std::string(), std::string("key-"), std::string("key-one "), std::string("KEY-ONE"),
                                   std::string("key-one\0", 8), engine::Sha256Hex("key-one")}) {
    EXPECT_EQ((*tenants)->FindByKey(wrong), nullptr) << wrong;
  }
  EXPECT_EQ((*tenants)->FindBySubject(""), nullptr);
}

TEST(Tenants, Row69_ErrorsNameTheFileAndTheField) {
  ExpectRefused("", "tenants: none");
  ExpectRefused("tenants {\n  nam: \"a\"\n}", ":2:6: ");
  ExpectRefused("tenants { name: 7 }", ":1:17: ");
  ExpectRefused("tenants { name: \"a\"", ":1:");
  ExpectRefused(TenantText("", "k"), "tenants[0].name: ");
  ExpectRefused(TenantText(std::string(65, 'a'), "k"), "tenants[0].name: ");
  ExpectRefused(TenantText("a", "k") + TenantText("a", "l"), "tenants[1].name: ");
  ExpectRefused(TenantText("a", "k") + TenantText("b", "k"), "tenants[1].key_sha256: ");
  ExpectRefused("tenants { name: 'a' }", "tenants[0].key_sha256: ");
  ExpectRefused("tenants { name: 'a' certificate_subjects: '' }", "tenants[0].certificate_subjects: ");
  ExpectRefused("tenants { name: 'a' certificate_subjects: 'CN=x' certificate_subjects: 'CN=x' }",
                "tenants[0].certificate_subjects: ");
  for (const char* weight : {"0", "-1", "nan", "inf", "1001"}) {
    ExpectRefused(TenantText("a", "k", absl::StrCat("weight: ", weight)), "tenants[0].weight: ");
  }
  for (const char* field : {"requests_per_minute", "tokens_per_minute", "concurrent_sequences"}) {
    ExpectRefused(TenantText("a", "k", absl::StrCat("limits { ", field, ": 0 }")),
                  absl::StrCat("tenants[0].limits.", field, ": "));
  }
  for (const char* field : {"queue_share", "kv_share"}) {
    for (const char* value : {"0", "-0.5", "1.001", "nan"}) {
      ExpectRefused(TenantText("a", "k", absl::StrCat("limits { ", field, ": ", value, " }")),
                    absl::StrCat("tenants[0].limits.", field, ": "));
    }
  }
  EXPECT_THAT(Tenants::Read("/nonexistent/t", kCapacity).status(),
              StatusIs(absl::StatusCode::kNotFound, HasSubstr("/nonexistent/t")));
}

TEST(Tenants, Row36_AKeyGivenInPlaceOfItsDigestIsNotRepeated) {
  const absl::Status status = Parse("tenants { name: 'a' key_sha256: 'sk-a-secret-key' }").status();
  EXPECT_THAT(status, StatusIs(absl::StatusCode::kInvalidArgument, HasSubstr("key_sha256: ")));
  EXPECT_THAT(std::string(status.message()), testing::Not(HasSubstr("secret")));
}

}  // namespace
}  // namespace nibble::server
