// Constrained answers over the wire, with an engine that draws any token its mask leaves. Rows 9-12 of the robustness
// table as a client meets them; tests/engine/grammar has them one layer down.
#include <string>
#include <utility>

#include "engine/grammar/grammar.h"
#include "engine/grammar/limits.h"
#include "nlohmann/json.hpp"
#include "tests/server/server_fixture.h"
#include "vllm/engine.grpc.pb.h"

namespace nibble::server {
namespace {

using grpc::StatusCode;
using Change = std::function<void(v1::Constraint&)>;

constexpr char kPerson[] =
    R"({"type":"object","properties":{"name":{"type":"string","maxLength":6},"age":{"type":"integer","maximum":150},
        "tags":{"type":"array","items":{"enum":["a","b"]},"maxItems":2}},"required":["name","age"]})";

// A token that the mask allows, a function of the seed and the tokens so far; an end where there is one, now and then.
int32_t DrawAllowed(const engine::SampleRequest& request) {
  if (request.matcher == nullptr) return 'x';
  std::vector<uint64_t> mask((288 + 63) / 64);
  if (!request.matcher->FillMask(request.terminators, absl::MakeSpan(mask))) return -1;
  std::vector<int32_t> ids;
  for (int32_t id = 0; id < 288; ++id) {
    if (mask[static_cast<size_t>(id) / 64] >> (id % 64) & 1) ids.push_back(id);
  }
  const uint64_t hash = (request.seed * 31 + request.generated.size() + 1) * 0x9E3779B97F4A7C15u;
  return ids.empty() ? -1 : ids[(hash >> 33) % ids.size()];
}

class ServerConstraint : public ServerFixture {
 protected:
  void SetUp() override {
    ServerFixture::SetUp();
    engine_->SetScript(DrawAllowed);
    canary_ = Generate(Ask("canary", 16)).text;  // by the script
  }

  static v1::GenerateRequest AskFor(const Change& change, uint64_t seed = 0, int64_t max_tokens = 600) {
    v1::GenerateRequest request = Ask("hello", max_tokens);
    request.mutable_sampling()->set_seed(seed);
    change(*request.mutable_constraint());
    return request;
  }
  Reply Answer(const Change& change, uint64_t seed = 0) { return Generate(AskFor(change, seed)); }
  void ExpectInvalid(const std::string& message, const Change& change) {
    EXPECT_THAT(Refusal([&](auto& r) { change(*r.mutable_constraint()); }),
                GrpcStatusIs(StatusCode::INVALID_ARGUMENT, message));
  }
};

TEST_F(ServerConstraint, JsonAnswersValidate) {
  for (uint64_t seed = 0; seed < 40; ++seed) {
    const Reply reply = Answer([](auto& c) { c.set_json_schema(kPerson); }, seed);
    ASSERT_TRUE(reply.status.ok()) << reply.status.error_message();
    const auto json = nlohmann::json::parse(reply.text, nullptr, false);
    ASSERT_TRUE(json.is_object()) << reply.text;
    EXPECT_TRUE(json.at("name").is_string() && json.at("age").is_number_integer()) << reply.text;
    EXPECT_LE(json.at("age").get<int64_t>(), 150);
    EXPECT_EQ(reply.finished[0].reason(), v1::FINISH_REASON_STOP);
  }
}

TEST_F(ServerConstraint, RegexChoiceAndEbnf) {
  for (uint64_t seed = 0; seed < 10; ++seed) {
    EXPECT_THAT(Answer([](auto& c) { c.set_regex("[ab]{3}-\\d+!"); }, seed).text,
                testing::MatchesRegex("[ab]{3}-[0-9]+!"));
    EXPECT_THAT(Answer(
                    [](auto& c) {
                      c.mutable_choice()->add_texts("yes");
                      c.mutable_choice()->add_texts("no");
                    },
                    seed)
                    .text,
                testing::AnyOf("yes", "no"));
    EXPECT_THAT(Answer([](auto& c) { c.set_ebnf("root ::= \"(\" root \")\" | \"x\""); }, seed).text,
                testing::HasSubstr("x"));
  }
}

TEST_F(ServerConstraint, EveryChoiceIsHeldToItsOwn) {
  v1::GenerateRequest request = AskFor([](auto& c) { c.set_regex("[a-z]{3}[0-9]"); });
  request.mutable_sampling()->set_n(4);
  const Reply reply = Generate(request);
  ASSERT_TRUE(reply.status.ok());
  ASSERT_EQ(reply.finished.size(), 4u);
  for (const v1::Finished& finished : reply.finished) EXPECT_EQ(finished.usage().generated_tokens(), 4);
}

TEST_F(ServerConstraint, AnAnswerThatCannotGoOnEndsWithoutAnEndToken) {
  v1::GenerateRequest request = AskFor([](auto& c) { c.mutable_choice()->add_texts("done"); });
  request.mutable_stopping()->set_ignore_eos(true);
  request.mutable_stopping()->set_min_tokens(30);
  const Reply reply = Generate(request);
  EXPECT_EQ(reply.text, "done");
  EXPECT_EQ(reply.finished[0].reason(), v1::FINISH_REASON_STOP);
}

TEST_F(ServerConstraint, ATokenOutsideTheGrammarEndsItsRequestAlone) {
  engine_->SetScript([](const engine::SampleRequest& request) { return request.matcher == nullptr ? 'x' : 'z'; });
  EXPECT_EQ(Answer([](auto& c) { c.set_regex("a+"); }).status.error_code(), StatusCode::INTERNAL);
}

TEST_F(ServerConstraint, Row9_BadConstraintsNameTheirField) {
  ExpectInvalid("constraint: one of", [](auto&) {});
  ExpectInvalid("constraint.json_schema: is no JSON", [](auto& c) { c.set_json_schema("{"); });
  ExpectInvalid("constraint.json_schema: $.properties.a: type is none of",
                [](auto& c) { c.set_json_schema(R"({"properties":{"a":{"type":"thing"}}})"); });
  ExpectInvalid("constraint.regex: a ')' is missing at byte 2", [](auto& c) { c.set_regex("(a"); });
  ExpectInvalid("constraint.choice: lists nothing", [](auto& c) { c.mutable_choice(); });
  ExpectInvalid("constraint.ebnf: no rule 'root'", [](auto& c) { c.set_ebnf("a ::= \"b\""); });
}

TEST_F(ServerConstraint, Row9_SourcesEndAtTheirLimit) {
  const auto schema = [](size_t bytes) {
    return [bytes](auto& c) { c.set_json_schema("true" + std::string(bytes - 4, ' ')); };
  };
  EXPECT_TRUE(Generate(AskFor(schema(engine::grammar::kMaxSourceBytes), 0, 2)).status.ok());
  ExpectInvalid("constraint.json_schema: longer than 65536 bytes", schema(engine::grammar::kMaxSourceBytes + 1));
}

TEST_F(ServerConstraint, Row10_CostlyConstraintsAreRefusedWhileOthersAreAnswered) {
  engine_->Hold();  // the loop does nothing: refusals need no step
  for (const char* regex : {"(a|b)*a(a|b){30}", "((a{1,1000}){1,1000}){1,1000}", "(.{1,300}a){1,300}"}) {
    ExpectInvalid("constraint.regex: ", [regex](auto& c) { c.set_regex(regex); });
  }
  engine_->Release();
  EXPECT_EQ(Answer([](auto& c) { c.set_regex("(a+)+b"); }, 3).text.back(), 'b');
}

TEST_F(ServerConstraint, Row11_DeepAndLeftRecursiveConstraintsAreRefused) {
  for (const size_t depth : {5'000, 60'000}) {
    ExpectInvalid("constraint.json_schema: nests deeper than 64",
                  [&](auto& c) { c.set_json_schema(std::string(depth / 2, '[') + std::string(depth / 2, ']')); });
    ExpectInvalid("constraint.regex: groups nest deeper than 64",
                  [&](auto& c) { c.set_regex(std::string(depth, '(')); });
    ExpectInvalid("constraint.ebnf: groups nest deeper than 64",
                  [&](auto& c) { c.set_ebnf("root ::= " + std::string(depth, '(')); });
  }
  ExpectInvalid("constraint.ebnf: the rule 'root' leads to left recursion",
                [](auto& c) { c.set_ebnf("root ::= root \"a\" | \"a\""); });
}

TEST_F(ServerConstraint, Row12_DistinctSchemasAreServedOneAfterTheOther) {
  for (int i = 0; i < 300; ++i) {
    const std::string text = std::to_string(i);
    EXPECT_EQ(Answer([&](auto& c) { c.set_json_schema(R"({"const":")" + text + R"("})"); }).text, "\"" + text + "\"");
  }
}

class ServerConstraintMemory : public ServerConstraint {
 protected:
  void SetUp() override {
    options_.limits.grammar_bytes = 64 << 10;
    ServerConstraint::SetUp();
  }
};

TEST_F(ServerConstraintMemory, Row12_GrammarsOfLiveRequestsAreBounded) {
  EXPECT_TRUE(Answer([](auto& c) { c.set_regex("[a-z]{10}"); }).status.ok());
  const Reply reply = Answer([](auto& c) { c.set_json_schema(R"({"type":"string","maxLength":500})"); });
  EXPECT_THAT(reply.status, GrpcStatusIs(StatusCode::RESOURCE_EXHAUSTED, "constraint: no memory left"));
}

TEST_F(ServerConstraint, GatewaysNameTheirOwnFields) {
  namespace pb = vllm::grpc::engine;
  const auto vllm = pb::VllmEngine::NewStub(NewChannel());
  const auto run = [&](const std::function<void(pb::SamplingParams&)>& change, std::string* text) {
    pb::GenerateRequest request;
    request.set_text("hello");
    request.mutable_sampling_params()->set_max_tokens(600);
    change(*request.mutable_sampling_params());
    grpc::ClientContext context;
    const auto reader = vllm->Generate(&context, request);
    pb::GenerateResponse response;
    while (reader->Read(&response)) {
      for (const uint32_t id : response.complete().output_ids()) text->push_back(static_cast<char>(id));
    }
    return reader->Finish();
  };
  std::string text;
  EXPECT_TRUE(run([](auto& s) { s.set_json_schema(kPerson); }, &text).ok());
  EXPECT_TRUE(nlohmann::json::accept(text)) << text;
  text.clear();
  EXPECT_TRUE(run([](auto& s) { s.set_grammar("root ::= \"g\""); }, &text).ok());
  EXPECT_TRUE(run([](auto& s) { s.set_regex("r"); }, &text).ok());
  EXPECT_TRUE(run([](auto& s) { s.mutable_choice()->add_choices("c"); }, &text).ok());
  EXPECT_EQ(text, "grc");
  const std::pair<const char*, std::function<void(pb::SamplingParams&)>> kBad[] = {
      {"sampling_params.json_schema: ", [](auto& s) { s.set_json_schema("{"); }},
      {"sampling_params.regex: ", [](auto& s) { s.set_regex("("); }},
      {"sampling_params.grammar: ", [](auto& s) { s.set_grammar("("); }},
      {"sampling_params.choice: ", [](auto& s) { s.mutable_choice(); }},
  };
  for (const auto& [message, change] : kBad) {
    EXPECT_THAT(run(change, &text), GrpcStatusIs(StatusCode::INVALID_ARGUMENT, message));
  }
}

}  // namespace
}  // namespace nibble::server
