// Cuts a text's tokens into the chunks that perplexity is measured on, by the rule of llama.cpp's perplexity tool.
#ifndef NIBBLE_ENGINE_TOOLS_CHUNKS_H_
#define NIBBLE_ENGINE_TOOLS_CHUNKS_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"
#include "engine/tokenizer/data.h"

namespace nibble::engine {

struct ChunkOptions {
  int64_t context = 2048;  // tokens of a chunk
  int64_t most = 8;        // chunks
};

// Chunks that do not overlap; what is left at the end is not used. Where the model starts texts with BOS, it replaces
// the first token of each chunk. INVALID_ARGUMENT if the tokens do not fill one chunk.
absl::StatusOr<std::vector<std::vector<int32_t>>> CutChunks(absl::Span<const int32_t> ids, const TokenizerData& data,
                                                            const ChunkOptions& options);

// The same, but spread evenly over all the chunks that the text has.
absl::StatusOr<std::vector<std::vector<int32_t>>> SpreadChunks(absl::Span<const int32_t> ids, const TokenizerData& data,
                                                               const ChunkOptions& options);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_TOOLS_CHUNKS_H_
