#include "engine/tokenizer/merge_table.h"

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace nibble::engine {
namespace {

uint64_t PairKey(int32_t left, int32_t right) {
  return uint64_t{static_cast<uint32_t>(left)} << 32 | static_cast<uint32_t>(right);
}

}  // namespace

absl::StatusOr<MergeTable> MergeTable::Create(const std::vector<std::string>& merges,
                                              absl::FunctionRef<int32_t(std::string_view)> id_of) {
  MergeTable table;
  table.by_pair_.reserve(merges.size());
  for (size_t rank = 0; rank < merges.size(); ++rank) {
    const std::string_view merge = merges[rank];
    const size_t space = merge.find(' ', 1);
    const bool parted = space != std::string_view::npos;
    const std::string_view left = merge.substr(0, space), right = parted ? merge.substr(space + 1) : "";
    const int32_t left_id = id_of(left), right_id = id_of(right), both = id_of(std::string(left) + std::string(right));
    if (!parted || left_id < 0 || right_id < 0 || both < 0) {
      return absl::FailedPreconditionError(
          absl::StrCat("tokenizer merge ", rank, " does not name two tokens whose joint is a token"));
    }
    table.by_pair_.try_emplace(PairKey(left_id, right_id), Merge{both, static_cast<double>(rank)});
  }
  return table;
}

Merge MergeTable::Find(int32_t left, int32_t right) const {
  const auto merge = by_pair_.find(PairKey(left, right));
  return merge == by_pair_.end() ? Merge{} : merge->second;
}

}  // namespace nibble::engine
