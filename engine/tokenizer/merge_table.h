// Merges by rank: which two tokens become which, best first. Immutable after creation.
#ifndef NIBBLE_ENGINE_TOKENIZER_MERGE_TABLE_H_
#define NIBBLE_ENGINE_TOKENIZER_MERGE_TABLE_H_

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/functional/function_ref.h"
#include "absl/status/statusor.h"
#include "engine/tokenizer/merge.h"

namespace nibble::engine {

class MergeTable {
 public:
  // `merges` are "left right", best first; `id_of` gives a token's id, or -1. FAILED_PRECONDITION for a merge that does
  // not name two tokens whose joint is a token.
  static absl::StatusOr<MergeTable> Create(const std::vector<std::string>& merges,
                                           absl::FunctionRef<int32_t(std::string_view)> id_of);

  bool empty() const { return by_pair_.empty(); }
  // What two tokens, or characters that are none (-1), form.
  Merge Find(int32_t left, int32_t right) const;

 private:
  absl::flat_hash_map<uint64_t, Merge> by_pair_;
};

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_TOKENIZER_MERGE_TABLE_H_
