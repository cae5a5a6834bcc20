#include "engine/tools/retrieval.h"

#include <algorithm>
#include <memory>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/tools/solo_sequence.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

constexpr int kDepths[] = {10, 30, 50, 70, 90};  // percent
constexpr int kDigits = 5;
constexpr int64_t kAnswerTokens = 12;

struct Question {
  std::vector<int32_t> prompt;
  std::string answer;
};

std::string DrawDigits(std::mt19937& random) {
  std::string digits;
  for (int i = 0; i < kDigits; ++i) digits += static_cast<char>('0' + random() % 10);
  return digits;
}

// The text on both sides of a needle, cut so that the whole prompt has `length` tokens at most.
class QuestionMaker {
 public:
  QuestionMaker(const OpenedModel& model, const std::string& filler)
      : model_(model), filler_(model.tokenizer->Encode(filler, {})) {}

  absl::StatusOr<Question> Passkey(int64_t length, int depth, std::mt19937& random) const {
    const std::string key = DrawDigits(random);
    const std::vector<int32_t> needle = model_.tokenizer->Encode(
        absl::StrCat("\n\nThe pass key is ", key, ". Remember it. ", key, " is the pass key.\n\n"), {});
    const std::vector<int32_t> question = model_.tokenizer->Encode("\n\nWhat is the pass key? The pass key is", {});
    const int64_t room = length - Bos() - Size(needle) - Size(question);
    if (room < 1 || room > Size(filler_)) return NoRoom(length);
    const int64_t offset = static_cast<int64_t>(random() % static_cast<uint64_t>(Size(filler_) - room + 1));
    const auto text = absl::MakeConstSpan(filler_).subspan(static_cast<size_t>(offset), static_cast<size_t>(room));
    const size_t before = static_cast<size_t>(room * depth / 100);
    return Question{Join({text.first(before), needle, text.subspan(before), question}), key};
  }

  absl::StatusOr<Question> KeyValue(int64_t length, int depth, std::mt19937& random) const {
    const std::vector<int32_t> begin = model_.tokenizer->Encode("Codes of the stores:\n", {});
    const auto pair = [&](const std::string& key, const std::string& value) {
      return model_.tokenizer->Encode(absl::StrCat("Store ", key, " has the code ", value, ".\n"), {});
    };
    const auto ask = [&](const std::string& key) {
      return model_.tokenizer->Encode(absl::StrCat("\nStore ", key, " has the code"), {});
    };
    const std::string key = DrawDigits(random), value = DrawDigits(random);
    const std::vector<int32_t> needle = pair(key, value), question = ask(key);
    const int64_t room = length - Bos() - Size(begin) - Size(needle) - Size(question);
    if (room < 1) return NoRoom(length);
    std::vector<int32_t> before, after;
    for (std::vector<int32_t>* side : {&before, &after}) {
      const int64_t share = side == &before ? room * depth / 100 : room - room * depth / 100;
      for (std::vector<int32_t> other; Size(*side) + Size(other) <= share; other = OtherPair(key, pair, random)) {
        side->insert(side->end(), other.begin(), other.end());
      }
    }
    return Question{Join({begin, before, needle, after, question}), value};
  }

 private:
  static int64_t Size(const std::vector<int32_t>& ids) { return static_cast<int64_t>(ids.size()); }
  int64_t Bos() const { return model_.tokenizer->data().add_bos ? 1 : 0; }

  template <typename Pair>
  static std::vector<int32_t> OtherPair(const std::string& key, const Pair& pair, std::mt19937& random) {
    std::string other = DrawDigits(random);
    if (other == key) other[0] = other[0] == '9' ? '0' : static_cast<char>(other[0] + 1);
    return pair(other, DrawDigits(random));
  }

  static absl::Status NoRoom(int64_t length) {
    return absl::InvalidArgumentError(
        absl::StrCat("--retrieval: a prompt of ", length, " tokens cannot be made of this text"));
  }

  std::vector<int32_t> Join(const std::vector<absl::Span<const int32_t>>& parts) const {
    std::vector<int32_t> ids;
    if (Bos() > 0) ids.push_back(model_.tokenizer->data().bos);
    for (const auto part : parts) ids.insert(ids.end(), part.begin(), part.end());
    return ids;
  }

  const OpenedModel& model_;
  const std::vector<int32_t> filler_;
};

absl::StatusOr<bool> Finds(const OpenedModel& model, Engine& engine, const Adapter* adapter, const Question& question) {
  SoloSequence sequence(engine, static_cast<int64_t>(question.prompt.size()) + kAnswerTokens);
  sequence.set_adapter(adapter);
  SamplingParams greedy;
  greedy.temperature = 0.0f;
  std::vector<int32_t> ids;
  absl::Span<const int32_t> next = question.prompt;
  while (static_cast<int64_t>(ids.size()) < kAnswerTokens) {
    const SampleRequest request = {&greedy, question.prompt, ids, {}, 0};
    const SequenceResult step = sequence.Append(next, &request);
    if (step.faulted) return absl::InternalError("a logit is not finite");
    ids.push_back(step.token);
    next = absl::MakeConstSpan(ids).last(1);
  }
  const std::string text = model.tokenizer->Decode(ids, false);
  return text.find(question.answer) != std::string::npos;
}

// One kind and length under all modes.
class Series {
 public:
  Series(const OpenedModel& model, const QuestionMaker& maker, const RetrievalOptions& options)
      : model_(model), maker_(maker), options_(options) {}

  absl::Status Run(const std::string& kind, int64_t length, const std::function<void()>& asked) {
    NIBBLE_ASSIGN_OR_RETURN(const auto questions, Ask(kind, length));
    for (const RunMode& mode : options_.modes) {
      NIBBLE_ASSIGN_OR_RETURN(const EngineOptions engine_options, OptionsFor(mode));
      NIBBLE_ASSIGN_OR_RETURN(const auto engine,
                              EngineWithPages(engine_options, model_, kv::PagesFor(length + kAnswerTokens)));
      NIBBLE_ASSIGN_OR_RETURN(const auto adapter, AdapterFor(*engine, engine_options, model_));
      RetrievalRow row = {
          mode, kind, length, 0, static_cast<int>(questions.size()), std::vector<int>(std::size(kDepths))};
      for (size_t i = 0; i < questions.size(); ++i) {
        NIBBLE_ASSIGN_OR_RETURN(const bool found, Finds(model_, *engine, adapter.get(), questions[i]));
        row.found += found;
        row.found_at[i / static_cast<size_t>(options_.trials)] += found;
        asked();
      }
      rows_.push_back(std::move(row));
    }
    return absl::OkStatus();
  }

  std::vector<RetrievalRow> TakeRows() { return std::move(rows_); }

 private:
  absl::StatusOr<std::vector<Question>> Ask(const std::string& kind, int64_t length) const {
    std::mt19937 random(static_cast<uint32_t>(length));
    std::vector<Question> questions;
    for (const int depth : kDepths) {
      for (int trial = 0; trial < options_.trials; ++trial) {
        NIBBLE_ASSIGN_OR_RETURN(Question question, kind == "passkey" ? maker_.Passkey(length, depth, random)
                                                                     : maker_.KeyValue(length, depth, random));
        questions.push_back(std::move(question));
      }
    }
    return questions;
  }

  const OpenedModel& model_;
  const QuestionMaker& maker_;
  const RetrievalOptions& options_;
  std::vector<RetrievalRow> rows_;
};

}  // namespace

absl::StatusOr<std::vector<RetrievalRow>> RunRetrieval(const OpenedModel& model, const std::string& filler,
                                                       const RetrievalOptions& options,
                                                       const std::function<void(int64_t done, int64_t all)>& progress) {
  for (const int64_t length : options.lengths) {
    if (length + kAnswerTokens > model.file.config.context_length) {
      return absl::InvalidArgumentError(absl::StrCat("--retrieval=", length,
                                                     ": with the answer it exceeds the model's ", "context of ",
                                                     model.file.config.context_length));
    }
  }
  const QuestionMaker maker(model, filler);
  Series series(model, maker, options);
  const int64_t all =
      static_cast<int64_t>(2 * options.lengths.size() * options.modes.size() * std::size(kDepths)) * options.trials;
  int64_t done = 0;
  for (const int64_t length : options.lengths) {
    for (const char* kind : {"passkey", "key-value"}) {
      NIBBLE_RETURN_IF_ERROR(series.Run(kind, length, [&] { progress(++done, all); }));
    }
  }
  return series.TakeRows();
}

}  // namespace nibble::engine
