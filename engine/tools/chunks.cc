#include "engine/tools/chunks.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {

absl::StatusOr<std::vector<std::vector<int32_t>>> CutChunks(absl::Span<const int32_t> ids, const TokenizerData& data,
                                                            const ChunkOptions& options) {
  const int64_t count = std::min(options.most, static_cast<int64_t>(ids.size()) / options.context);
  if (count < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("the text has ", ids.size(), " tokens, fewer than one chunk of --context=", options.context));
  }
  std::vector<std::vector<int32_t>> chunks;
  for (int64_t i = 0; i < count; ++i) {
    const auto part = ids.subspan(static_cast<size_t>(i * options.context), static_cast<size_t>(options.context));
    chunks.emplace_back(part.begin(), part.end());
    if (data.add_bos && data.bos >= 0) chunks.back()[0] = data.bos;
  }
  return chunks;
}

absl::StatusOr<std::vector<std::vector<int32_t>>> SpreadChunks(absl::Span<const int32_t> ids, const TokenizerData& data,
                                                               const ChunkOptions& options) {
  const ChunkOptions all = {options.context, std::numeric_limits<int64_t>::max()};
  NIBBLE_ASSIGN_OR_RETURN(std::vector<std::vector<int32_t>> chunks, CutChunks(ids, data, all));
  const auto have = static_cast<int64_t>(chunks.size()), count = std::min(have, options.most);
  std::vector<std::vector<int32_t>> chosen;
  for (int64_t i = 0; i < count; ++i) chosen.push_back(std::move(chunks[static_cast<size_t>(i * have / count)]));
  return chosen;
}

}  // namespace nibble::engine
