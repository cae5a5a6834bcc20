// What a constrained row costs: the mask over the next token and reading the token drawn, by place in a JSON answer,
// and compiling a schema. One thread.
//
// usage: grammar_bench --model FILE [Google Benchmark's flags]
//
// `known`: the states' masks are in the cache, as they are from a state's second visit by any request on; `new`: none
// is.
#include <benchmark/benchmark.h>

#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/flags/flag.h"
#include "absl/flags/parse.h"
#include "engine/grammar/compiler.h"
#include "engine/weights/model_file.h"

ABSL_FLAG(std::string, model, "", "model file (GGUF)");

namespace nibble::engine::grammar {
namespace {

constexpr char kSchema[] =
    R"({"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer","minimum":0,"maximum":150},
        "email":{"type":"string","format":"email"},"bio":{"type":"string","maxLength":500},
        "tags":{"type":"array","items":{"enum":["red","green","blue"]}},"active":{"type":"boolean"}},
        "required":["name","age","tags"]})";

struct Place {
  const char* name;
  const char* before;  // what the answer says so far
};
constexpr Place kPlaces[] = {{"begin", ""},
                             {"name_of_member", "{\"na"},
                             {"in_string", "{\"name\": \"Ada"},
                             {"in_bounded_string", "{\"name\":\"A\",\"age\":3,\"bio\":\"Lov"},
                             {"in_pattern", "{\"name\":\"A\",\"age\":3,\"email\":\"ada"},
                             {"in_number", "{\"name\":\"A\",\"age\":3"}};

std::unique_ptr<Tokenizer> OpenTokenizer() {
  const auto file = OpenModelFile(absl::GetFlag(FLAGS_model));
  if (!file.ok()) {
    std::fprintf(stderr, "grammar_bench: %s\n", std::string(file.status().message()).c_str());
    std::exit(1);
  }
  return *Tokenizer::Create(file->tokenizer);
}

std::shared_ptr<const Grammar> CompileSchema(std::shared_ptr<Vocabulary> vocabulary) {
  return *CompileConstraint({Notation::kJsonSchema, kSchema, {}}, std::move(vocabulary));
}

Matcher MatcherAt(const std::shared_ptr<const Grammar>& grammar, const Tokenizer& tokenizer, const char* before) {
  Matcher matcher(grammar);
  for (const int32_t id : tokenizer.Encode(before, {.add_special = false})) matcher.Accept(id);
  return matcher;
}

void Mask(benchmark::State& state, const Tokenizer* tokenizer, std::shared_ptr<Vocabulary> vocabulary, Place place) {
  const auto grammar = CompileSchema(vocabulary);
  Matcher matcher = MatcherAt(grammar, *tokenizer, place.before);
  std::vector<uint64_t> mask(vocabulary->trie.mask_words());
  matcher.FillMask({}, absl::MakeSpan(mask));
  for (auto _ : state) benchmark::DoNotOptimize(matcher.FillMask({}, absl::MakeSpan(mask)));
}

void Accept(benchmark::State& state, const Tokenizer* tokenizer, std::shared_ptr<Vocabulary> vocabulary) {
  const auto grammar = CompileSchema(vocabulary);
  Matcher matcher = MatcherAt(grammar, *tokenizer, "{\"name\": \"Ada");
  const int32_t token = tokenizer->Encode(" love", {.add_special = false})[0];
  for (auto _ : state) benchmark::DoNotOptimize(matcher.Accept(token));
}

void Compile(benchmark::State& state, std::shared_ptr<Vocabulary> vocabulary) {
  for (auto _ : state) benchmark::DoNotOptimize(CompileSchema(vocabulary));
}

void BuildTrie(benchmark::State& state, const Tokenizer* tokenizer) {
  for (auto _ : state) benchmark::DoNotOptimize(TokenTrie(*tokenizer, tokenizer->vocab_size()));
}

void RegisterAll(const Tokenizer* tokenizer) {
  const auto vocabulary_with = [tokenizer](size_t mask_bytes) {
    return std::make_shared<Vocabulary>(TokenTrie(*tokenizer, tokenizer->vocab_size()), mask_bytes);
  };
  for (const auto& [name, bytes] : {std::pair("known", size_t{64} << 20), std::pair("new", size_t{0})}) {
    const auto vocabulary = vocabulary_with(bytes);
    for (const Place& place : kPlaces) {
      benchmark::RegisterBenchmark((std::string("mask/") + name + "/" + place.name).c_str(), Mask, tokenizer,
                                   vocabulary, place)
          ->Unit(benchmark::kMicrosecond);
    }
  }
  const auto vocabulary = vocabulary_with(size_t{64} << 20);
  benchmark::RegisterBenchmark("accept", Accept, tokenizer, vocabulary)->Unit(benchmark::kMicrosecond);
  benchmark::RegisterBenchmark("compile", Compile, vocabulary)->Unit(benchmark::kMillisecond);
  benchmark::RegisterBenchmark("read_vocabulary", BuildTrie, tokenizer)->Unit(benchmark::kMillisecond);
}

}  // namespace
}  // namespace nibble::engine::grammar

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  absl::ParseCommandLine(argc, argv);
  const auto tokenizer = nibble::engine::grammar::OpenTokenizer();
  nibble::engine::grammar::RegisterAll(tokenizer.get());
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
