#include "engine/tools/chunks.h"

#include <algorithm>

#include "absl/strings/str_cat.h"

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

}  // namespace nibble::engine
