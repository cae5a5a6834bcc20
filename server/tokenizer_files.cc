#include "server/tokenizer_files.h"

#include <zip.h>

#include <algorithm>
#include <cstddef>
#include <system_error>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "engine/weights/sha256.h"
#include "kvcache/base/status_macros.h"
#include "nlohmann/json.hpp"

namespace nibble::server {
namespace {

// Objects keep the order in which they are written.
using Json = nlohmann::ordered_json;
using engine::TokenizerData;
using engine::TokenType;

Json ByteLevel(bool use_regex) {
  return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", use_regex}};
}

Json Split(const char* expression) {
  return {{"type", "Split"}, {"pattern", {{"Regex", expression}}}, {"behavior", "Isolated"}, {"invert", false}};
}

// What stands for each `tokenizer.ggml.pre` in the models' own tokenizer.json; the expressions are those of
// engine/tokenizer/pre_tokenizer.cc in the notation of the `tokenizers` library.
absl::StatusOr<Json> PreTokenizers(const std::string& pre) {
  constexpr char kQwen2[] =
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  constexpr char kLlama3[] =
      R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
  if (pre == "gpt-2") return Json::array({ByteLevel(true)});
  if (pre == "smollm") {
    return Json::array({Json{{"type", "Digits"}, {"individual_digits", true}}, ByteLevel(true)});
  }
  if (pre == "qwen2") return Json::array({Split(kQwen2), ByteLevel(false)});
  if (pre == "llama-bpe") return Json::array({Split(kLlama3), ByteLevel(false)});
  return absl::UnimplementedError(absl::StrCat("tokenizer: no files for the pre-tokenizer '", pre, "'"));
}

TokenType TypeOf(const TokenizerData& data, size_t id) {
  return data.types.empty() ? TokenType::kNormal : data.types[id];
}

// What a SentencePiece file calls user-defined is found in the normalized text, its spaces already written as U+2581.
Json AddedToken(const TokenizerData& data, size_t id) {
  const bool control = TypeOf(data, id) == TokenType::kControl;
  const bool normalized = data.style == TokenizerData::Style::kSentencePiece && data.merges.empty() && !control;
  return {{"content", data.tokens[id]}, {"single_word", false}, {"lstrip", false}, {"rstrip", false},
          {"normalized", normalized},   {"special", control}};
}

// Calls `add` with the id and the description of each token that is found before any merge.
template <typename Add>
void ForEachAddedToken(const TokenizerData& data, const Add& add) {
  for (size_t id = 0; id < data.tokens.size(); ++id) {
    const TokenType type = TypeOf(data, id);
    if (type == TokenType::kControl || type == TokenType::kUserDefined) add(id, AddedToken(data, id));
  }
}

Json AddedTokens(const TokenizerData& data) {
  Json added = Json::array();
  ForEachAddedToken(data, [&added](size_t id, const Json& token) {
    Json entry = {{"id", id}};
    entry.update(token);
    added.push_back(std::move(entry));
  });
  return added;
}

Json Vocabulary(const TokenizerData& data) {
  Json vocabulary = Json::object();
  // Straight into the underlying list: a lookup for each of 150,000 tokens would be quadratic.
  auto& entries = vocabulary.get_ref<Json::object_t&>();
  entries.reserve(data.tokens.size());
  for (size_t id = 0; id < data.tokens.size(); ++id) entries.push_back({data.tokens[id], id});
  return vocabulary;
}

Json ByteLevelBpe(const TokenizerData& data) {
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", nullptr},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", false},
          {"byte_fallback", false},
          {"ignore_merges", data.pre == "llama-bpe"},
          {"vocab", Vocabulary(data)},
          {"merges", data.merges}};
}

// SentencePiece scores pieces where the ecosystem's files rank merges: each way to make a piece of two others is a
// merge, those of better pieces first.
Json MergesByScore(const TokenizerData& data) {
  absl::flat_hash_set<absl::string_view> pieces(data.tokens.begin(), data.tokens.end());
  std::vector<size_t> order;
  for (size_t id = 0; id < data.tokens.size(); ++id) {
    if (TypeOf(data, id) == TokenType::kNormal) order.push_back(id);
  }
  std::stable_sort(order.begin(), order.end(), [&data](size_t a, size_t b) { return data.scores[a] > data.scores[b]; });
  Json merges = Json::array();
  for (const size_t id : order) {
    const absl::string_view piece = data.tokens[id];
    for (size_t cut = 1; cut < piece.size(); ++cut) {
      const absl::string_view left = piece.substr(0, cut), right = piece.substr(cut);
      if (pieces.contains(left) && pieces.contains(right)) merges.push_back({std::string(left), std::string(right)});
    }
  }
  return merges;
}

Json SentencePieceBpe(const TokenizerData& data) {
  const Json unknown = data.unknown < 0 ? Json() : Json(data.tokens[static_cast<size_t>(data.unknown)]);
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", unknown},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", true},
          {"byte_fallback", true},
          {"ignore_merges", false},
          {"vocab", Vocabulary(data)},
          {"merges", data.merges.empty() ? MergesByScore(data) : Json(data.merges)}};
}

Json Replace(const char* pattern, const char* content) {
  return {{"type", "Replace"}, {"pattern", {{"String", pattern}}}, {"content", content}};
}

Json SentencePieceNormalizer(const TokenizerData& data) {
  Json steps = Json::array();
  if (data.add_space_prefix) steps.push_back({{"type", "Prepend"}, {"prepend", "\u2581"}});
  steps.push_back(Replace(" ", "\u2581"));
  return {{"type", "Sequence"}, {"normalizers", std::move(steps)}};
}

Json SentencePieceDecoder(const TokenizerData& data) {
  Json steps = Json::array({Replace("\u2581", " "), Json{{"type", "ByteFallback"}}, Json{{"type", "Fuse"}}});
  if (data.add_space_prefix) {
    steps.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  }
  return {{"type", "Sequence"}, {"decoders", std::move(steps)}};
}

// Names in a model file need not be UTF-8.
std::string Dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

// Receives the bytes of a zip that libzip writes in memory.
class ZipWriter {
 public:
  ZipWriter() {
    zip_error_t error;
    zip_error_init(&error);
    source_ = zip_source_buffer_create(nullptr, 0, 0, &error);
    if (source_ == nullptr) return;
    zip_source_keep(source_);
    archive_ = zip_open_from_source(source_, ZIP_TRUNCATE, &error);
  }
  ~ZipWriter() {
    if (archive_ != nullptr) zip_discard(archive_);
    if (source_ != nullptr) zip_source_free(source_);
  }
  ZipWriter(const ZipWriter&) = delete;
  ZipWriter& operator=(const ZipWriter&) = delete;

  // `content` must outlive Finish.
  bool Add(const char* name, const std::string& content) {
    if (archive_ == nullptr) return false;
    zip_source_t* file = zip_source_buffer(archive_, content.data(), content.size(), 0);
    if (file == nullptr) return false;
    const zip_int64_t index = zip_file_add(archive_, name, file, ZIP_FL_ENC_UTF_8);
    if (index < 0) zip_source_free(file);
    return index >= 0;
  }

  absl::StatusOr<std::string> Finish() {
    if (archive_ == nullptr || zip_close(archive_) != 0) return Failed();
    archive_ = nullptr;
    zip_stat_t stat;
    if (zip_source_stat(source_, &stat) != 0 || zip_source_open(source_) != 0) return Failed();
    std::string bytes(stat.size, '\0');
    const bool whole = zip_source_read(source_, bytes.data(), bytes.size()) == static_cast<zip_int64_t>(bytes.size());
    zip_source_close(source_);
    if (!whole) return Failed();
    return bytes;
  }

 private:
  static absl::Status Failed() { return absl::InternalError("tokenizer: its files could not be packed"); }

  zip_source_t* source_ = nullptr;
  zip_t* archive_ = nullptr;
};

absl::StatusOr<std::string> Pack(const std::string& tokenizer, const std::string& config) {
  ZipWriter zip;
  if (!zip.Add("tokenizer.json", tokenizer) || !zip.Add("tokenizer_config.json", config)) {
    return absl::InternalError("tokenizer: its files could not be packed");
  }
  return zip.Finish();
}

absl::StatusOr<TokenizerFiles::Zip> MakeZip(const TokenizerData& data) {
  NIBBLE_ASSIGN_OR_RETURN(const std::string tokenizer, TokenizerJson(data));
  TokenizerFiles::Zip zip;
  NIBBLE_ASSIGN_OR_RETURN(zip.bytes, Pack(tokenizer, TokenizerConfigJson(data)));
  zip.sha256 = engine::Sha256Hex(zip.bytes);
  return zip;
}

}  // namespace

absl::StatusOr<std::string> TokenizerJson(const TokenizerData& data) {
  Json file = {{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}, {"added_tokens", AddedTokens(data)}};
  if (data.style == TokenizerData::Style::kSentencePiece) {
    file["normalizer"] = SentencePieceNormalizer(data);
    file["pre_tokenizer"] = nullptr;
    file["post_processor"] = nullptr;
    file["decoder"] = SentencePieceDecoder(data);
    file["model"] = SentencePieceBpe(data);
  } else {
    NIBBLE_ASSIGN_OR_RETURN(Json pre_tokenizers, PreTokenizers(data.pre));
    file["normalizer"] = nullptr;
    file["pre_tokenizer"] = {{"type", "Sequence"}, {"pretokenizers", std::move(pre_tokenizers)}};
    file["post_processor"] = nullptr;
    file["decoder"] = ByteLevel(true);
    file["model"] = ByteLevelBpe(data);
  }
  return Dump(file);
}

std::string TokenizerConfigJson(const TokenizerData& data) {
  Json config = {{"tokenizer_class", "PreTrainedTokenizerFast"},
                 {"add_bos_token", data.add_bos},
                 {"add_prefix_space", false},
                 {"clean_up_tokenization_spaces", false}};
  const std::pair<const char*, int32_t> kNames[] = {
      {"bos_token", data.bos}, {"eos_token", data.eos}, {"unk_token", data.unknown}, {"pad_token", data.pad}};
  for (const auto& [name, id] : kNames) {
    if (id >= 0) config[name] = data.tokens[static_cast<size_t>(id)];
  }
  if (!data.chat_template.empty()) config["chat_template"] = data.chat_template;
  Json decoder = Json::object();
  ForEachAddedToken(data, [&decoder](size_t id, Json token) { decoder[absl::StrCat(id)] = std::move(token); });
  config["added_tokens_decoder"] = std::move(decoder);
  return Dump(config);
}

TokenizerFiles::~TokenizerFiles() {
  std::thread maker;
  {
    absl::MutexLock lock(&mu_);
    maker = std::move(maker_);
  }
  if (maker.joinable()) maker.join();
}

void TokenizerFiles::Get(Callback callback) {
  static const auto& refused = *new absl::StatusOr<Zip>(absl::ResourceExhaustedError("the system refuses a thread"));
  const absl::StatusOr<Zip>* answer = &refused;
  {
    absl::MutexLock lock(&mu_);
    if (zip_.has_value()) {
      answer = &*zip_;
    } else if (StartMaker()) {
      waiting_.push_back(std::move(callback));
      return;
    }
  }
  callback(*answer);
}

bool TokenizerFiles::StartMaker() try {
  if (!maker_.joinable()) maker_ = std::thread([this] { Make(); });
  return true;
} catch (const std::system_error&) {
  return false;
}

void TokenizerFiles::Make() {
  absl::StatusOr<Zip> zip = MakeZip(tokenizer_.data());
  std::vector<Callback> waiting;
  const absl::StatusOr<Zip>* made = nullptr;
  {
    absl::MutexLock lock(&mu_);
    made = &zip_.emplace(std::move(zip));
    waiting.swap(waiting_);
  }
  for (const Callback& callback : waiting) callback(*made);
}

}  // namespace nibble::server
