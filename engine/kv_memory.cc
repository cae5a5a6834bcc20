#include "engine/kv_memory.h"

#include <algorithm>
#include <limits>

#include "absl/strings/str_cat.h"

namespace nibble::engine {
namespace {

// What a typical sequence is taken to hold. Fewer would take more of the memory for raw slots; with more, sequences of
// a chat would wait for raw slots while pages are free.
constexpr int64_t kTypicalTokens = 1024;

}  // namespace

absl::StatusOr<kv::CacheShape> DivideKvMemory(int64_t bytes, const KvCosts& costs, int64_t context_tokens,
                                              int64_t max_sequences) {
  kv::CacheShape shape = {0, 0, costs.window_pages, costs.sink_pages};
  int64_t left = bytes - costs.table_bytes - costs.passing_bytes;
  if (costs.raw_page_bytes > 0) {
    const int64_t per_sequence = costs.sink_pages + costs.window_pages + 1, per_chunk = costs.window_pages + 1;
    const int64_t pages = kv::PagesFor(std::min(context_tokens, kTypicalTokens));
    const int64_t sequence_bytes = per_sequence * costs.raw_page_bytes + pages * costs.page_bytes;
    const int64_t sequences =
        std::clamp<int64_t>((left - per_chunk * costs.raw_page_bytes) / sequence_bytes, 1, max_sequences);
    shape.raw_slots = sequences * per_sequence + per_chunk;
    left -= shape.raw_slots * costs.raw_page_bytes;
  }
  shape.num_pages = std::max<int64_t>(0, left) / costs.page_bytes;
  if (shape.num_pages < 1) {
    return absl::InvalidArgumentError(absl::StrCat("kv_memory: ", bytes, " bytes hold no page: one takes ",
                                                   costs.page_bytes, ", and beside pages ", shape.raw_slots,
                                                   " raw ones of ", costs.raw_page_bytes, " and ",
                                                   costs.table_bytes + costs.passing_bytes, " for tables are needed"));
  }
  if (std::max(shape.num_pages, shape.raw_slots) > std::numeric_limits<kv::PageId>::max()) {
    return absl::InvalidArgumentError(absl::StrCat("kv_memory: ", bytes, " bytes are more pages than can be numbered"));
  }
  return shape;
}

}  // namespace nibble::engine
