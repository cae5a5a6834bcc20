#include "engine/weights/tokenizer_steps_hf.h"

#include <string_view>
#include <vector>

#include "engine/weights/byte_reader.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

constexpr size_t kMaxTextBytes = 4096;               // of a type, a pattern, the name of a special token
constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581

// The expressions by which the makers of Qwen2 and Llama 3 split text, as their tokenizer.json spells them; what they
// match is in engine/tokenizer/pre_tokenizer.cc.
constexpr std::string_view kQwen2Split =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kLlama3Split =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// A step in words that only an equal step has.
using Steps = std::vector<std::string>;

struct Chain {
  std::string_view pre;  // GGUF's name
  Steps steps;
};

const std::vector<Chain>& ByteLevelChains() {
  static const auto& chains = *new std::vector<Chain>{
      {"gpt-2", {"ByteLevel with regex"}},
      {"smollm", {"Digits", "ByteLevel with regex"}},
      {"qwen2", {"Split " + std::string(kQwen2Split), "ByteLevel"}},
      {"llama-bpe", {"Split " + std::string(kLlama3Split), "ByteLevel"}},
  };
  return chains;
}

absl::StatusOr<std::string> Text(const JsonValue& value) {
  std::string text;
  NIBBLE_RETURN_IF_ERROR(value.ReadText(kMaxTextBytes, &text));
  return text;
}

// The elements of a Sequence, named `list`, or the one step itself; none where the value is absent.
absl::StatusOr<std::vector<JsonValue>> StepsOf(const JsonValue& value, std::string_view list) {
  NIBBLE_RETURN_IF_ERROR(value.CheckObject());
  if (!value.present()) return std::vector<JsonValue>();
  NIBBLE_ASSIGN_OR_RETURN(const std::string type, Text(value["type"]));
  if (type != "Sequence") return std::vector<JsonValue>{value};
  const JsonValue elements = value[list];
  NIBBLE_RETURN_IF_ERROR(elements.CheckArray());
  std::vector<JsonValue> steps;
  for (size_t i = 0; i < elements.size(); ++i) {
    steps.push_back(elements.At(i));
    NIBBLE_RETURN_IF_ERROR(steps.back().CheckObject());
  }
  return steps;
}

absl::Status Unsupported(const JsonValue& step, std::string_view what) {
  return step.Error(std::string(what) + " is not supported");
}

// Fails unless the option has the value, or is absent where that is its default.
absl::Status Expect(const JsonValue& step, std::string_view key, bool wanted, bool by_default) {
  bool value = by_default;
  NIBBLE_RETURN_IF_ERROR(step[key].ReadBool(&value));
  return value == wanted ? absl::OkStatus() : Unsupported(step[key], value ? "true" : "false");
}

absl::StatusOr<std::string> DescribeByteLevel(const JsonValue& step) {
  NIBBLE_RETURN_IF_ERROR(Expect(step, "add_prefix_space", false, true));
  bool use_regex = true;
  NIBBLE_RETURN_IF_ERROR(step["use_regex"].ReadBool(&use_regex));
  return std::string(use_regex ? "ByteLevel with regex" : "ByteLevel");
}

// A pattern is {"Regex": …} or {"String": …}.
absl::StatusOr<std::string> DescribeSplit(const JsonValue& step) {
  NIBBLE_RETURN_IF_ERROR(Expect(step, "invert", false, false));
  NIBBLE_ASSIGN_OR_RETURN(const std::string behavior, Text(step["behavior"]));
  NIBBLE_ASSIGN_OR_RETURN(const std::string literal, Text(step["pattern"]["String"]));
  NIBBLE_ASSIGN_OR_RETURN(const std::string regex, Text(step["pattern"]["Regex"]));
  if (!regex.empty() && behavior == "Isolated") return "Split " + regex;
  // Gemma's: its normalizer leaves no space to split at.
  if (literal == " " && behavior == "MergedWithPrevious") return std::string("Split at spaces");
  return Unsupported(step, "this Split");
}

// Spells spaces, and puts one first.
absl::StatusOr<std::string> DescribeMetaspace(const JsonValue& step) {
  NIBBLE_RETURN_IF_ERROR(Expect(step, "split", false, true));
  NIBBLE_ASSIGN_OR_RETURN(const std::string replacement, Text(step["replacement"]));
  if (replacement != kSpace) return Unsupported(step["replacement"], Quoted(replacement));
  NIBBLE_ASSIGN_OR_RETURN(const std::string prepend, Text(step["prepend_scheme"]));
  if (prepend == "always" || prepend == "never") return "Metaspace " + prepend;
  return Unsupported(step["prepend_scheme"], Quoted(prepend));
}

absl::StatusOr<std::string> DescribeReplace(const JsonValue& step) {
  NIBBLE_ASSIGN_OR_RETURN(const std::string literal, Text(step["pattern"]["String"]));
  NIBBLE_ASSIGN_OR_RETURN(const std::string content, Text(step["content"]));
  if (literal == " " && content == kSpace) return std::string("Spell spaces");
  return Unsupported(step, "this Replace");
}

absl::StatusOr<std::string> DescribePrepend(const JsonValue& step) {
  NIBBLE_ASSIGN_OR_RETURN(const std::string prefix, Text(step["prepend"]));
  if (prefix == kSpace) return std::string("Prepend space");
  return Unsupported(step["prepend"], Quoted(prefix));
}

absl::StatusOr<std::string> DescribeDigits(const JsonValue& step) {
  NIBBLE_RETURN_IF_ERROR(Expect(step, "individual_digits", true, false));
  return std::string("Digits");
}

absl::StatusOr<std::string> DescribeNfc(const JsonValue&) { return std::string("NFC"); }

struct StepType {
  std::string_view type;
  absl::StatusOr<std::string> (*describe)(const JsonValue& step);
};

constexpr StepType kStepTypes[] = {
    {"ByteLevel", DescribeByteLevel},
    {"Split", DescribeSplit},
    {"Metaspace", DescribeMetaspace},
    {"Replace", DescribeReplace},
    {"Prepend", DescribePrepend},
    {"Digits", DescribeDigits},
    {"NFC", DescribeNfc},
};

absl::StatusOr<std::string> Describe(const JsonValue& step) {
  NIBBLE_ASSIGN_OR_RETURN(const std::string type, Text(step["type"]));
  for (const StepType& known : kStepTypes) {
    if (known.type == type) return known.describe(step);
  }
  return Unsupported(step["type"], Quoted(type));
}

absl::StatusOr<Steps> DescribeAll(const JsonValue& value, std::string_view list) {
  NIBBLE_ASSIGN_OR_RETURN(const std::vector<JsonValue> steps, StepsOf(value, list));
  Steps described;
  for (const JsonValue& step : steps) {
    NIBBLE_ASSIGN_OR_RETURN(described.emplace_back(), Describe(step));
  }
  return described;
}

std::string Joined(const Steps& steps) {
  std::string text;
  for (const std::string& step : steps) text += (text.empty() ? "" : ", ") + step;
  return text.empty() ? "none" : text;
}

bool IsByteLevel(const Steps& steps) { return !steps.empty() && steps.back().starts_with("ByteLevel"); }

absl::StatusOr<HfTextSteps> ByteLevelSteps(const JsonDocument& tokenizer, const Steps& normalizers,
                                           const Steps& steps) {
  if (!normalizers.empty() && normalizers != Steps{"NFC"}) {
    return Unsupported(tokenizer["normalizer"], Quoted(Joined(normalizers)));
  }
  for (const Chain& chain : ByteLevelChains()) {
    if (chain.steps == steps) return HfTextSteps{TokenizerData::Style::kByteLevelBpe, std::string(chain.pre), false};
  }
  return Unsupported(tokenizer["pre_tokenizer"], Quoted(Joined(steps)));
}

// Spaces are spelled either by the normalizer or by the pre-tokenizer.
absl::StatusOr<HfTextSteps> SentencePieceSteps(const JsonDocument& tokenizer, const Steps& normalizers,
                                               const Steps& steps) {
  HfTextSteps found{TokenizerData::Style::kSentencePiece, "", false};
  if (normalizers.empty() && (steps == Steps{"Metaspace always"} || steps == Steps{"Metaspace never"})) {
    found.add_space_prefix = steps[0] == "Metaspace always";
    return found;
  }
  found.add_space_prefix = normalizers == Steps{"Prepend space", "Spell spaces"};
  if (!found.add_space_prefix && normalizers != Steps{"Spell spaces"}) {
    return Unsupported(tokenizer["normalizer"], Quoted(Joined(normalizers)));
  }
  if (steps.empty() || steps == Steps{"Split at spaces"}) return found;
  return Unsupported(tokenizer["pre_tokenizer"], Quoted(Joined(steps)));
}

// A template is a list of {"SpecialToken": {"id": NAME}} and one {"Sequence": {"id": "A"}}.
absl::StatusOr<HfEnds> ReadTemplate(const JsonValue& pieces) {
  NIBBLE_RETURN_IF_ERROR(pieces.CheckArray());
  HfEnds ends;
  bool behind_text = false;
  for (size_t i = 0; i < pieces.size(); ++i) {
    const JsonValue piece = pieces.At(i), special = piece["SpecialToken"];
    std::string& end = behind_text ? ends.last : ends.first;
    if (special.present() && end.empty()) {
      NIBBLE_ASSIGN_OR_RETURN(end, Text(special["id"]));
    } else if (!special.present() && !behind_text && piece["Sequence"].present()) {
      behind_text = true;
    } else {
      return Unsupported(piece, "more than a special token at each end");
    }
  }
  return behind_text ? absl::StatusOr<HfEnds>(ends) : pieces.Error("has no place for the text");
}

}  // namespace

absl::StatusOr<HfTextSteps> ReadTextSteps(const JsonDocument& tokenizer) {
  NIBBLE_ASSIGN_OR_RETURN(const Steps normalizers, DescribeAll(tokenizer["normalizer"], "normalizers"));
  NIBBLE_ASSIGN_OR_RETURN(const Steps steps, DescribeAll(tokenizer["pre_tokenizer"], "pretokenizers"));
  return IsByteLevel(steps) ? ByteLevelSteps(tokenizer, normalizers, steps)
                            : SentencePieceSteps(tokenizer, normalizers, steps);
}

absl::StatusOr<HfEnds> ReadEnds(const JsonDocument& tokenizer) {
  NIBBLE_ASSIGN_OR_RETURN(const std::vector<JsonValue> steps, StepsOf(tokenizer["post_processor"], "processors"));
  HfEnds ends;
  for (const JsonValue& step : steps) {
    NIBBLE_ASSIGN_OR_RETURN(const std::string type, Text(step["type"]));
    if (type == "ByteLevel") continue;  // moves offsets only
    if (type != "TemplateProcessing") return Unsupported(step["type"], Quoted(type));
    NIBBLE_ASSIGN_OR_RETURN(ends, ReadTemplate(step["single"]));
  }
  return ends;
}

}  // namespace nibble::engine
