#include "engine/tools/tokenize_command.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "absl/flags/flag.h"
#include "absl/strings/str_join.h"
#include "engine/tools/files.h"
#include "engine/tools/flags.h"
#include "engine/tools/opened_model.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

absl::StatusOr<std::string> TextFromFlags() {
  const std::string text = absl::GetFlag(FLAGS_text), path = absl::GetFlag(FLAGS_file);
  if (text.empty() == path.empty()) return absl::InvalidArgumentError("one of --text and --file is needed");
  if (!path.empty()) return ReadWholeFile(path);
  return text;
}

}  // namespace

absl::Status RunTokenize(const std::vector<std::string>& /*positionals*/) {
  NIBBLE_RETURN_IF_ERROR(RequireText("model", absl::GetFlag(FLAGS_model)));
  const std::string json_path = absl::GetFlag(FLAGS_json);
  NIBBLE_RETURN_IF_ERROR(CheckWritable(json_path));
  NIBBLE_ASSIGN_OR_RETURN(const std::string text, TextFromFlags());
  NIBBLE_ASSIGN_OR_RETURN(const OpenedModel model, OpenModel(absl::GetFlag(FLAGS_model)));
  const std::vector<int32_t> ids = model.tokenizer->Encode(text, {});
  if (json_path.empty()) {
    std::printf("%s\n", absl::StrJoin(ids, " ").c_str());
    return absl::OkStatus();
  }
  return WriteWholeFile(json_path, nlohmann::json{{"ids", ids}}.dump());
}

}  // namespace nibble::engine
