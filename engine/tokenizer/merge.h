// The merge loop of byte pair encoding (Sennrich et al., arXiv 1508.07909): while any two neighbours form a token, the
// best pair becomes one; of equally good ones the leftmost. O(n log n), and quick for the short words that text is made
// of.
#ifndef NIBBLE_ENGINE_TOKENIZER_MERGE_H_
#define NIBBLE_ENGINE_TOKENIZER_MERGE_H_

#include <cstdint>
#include <queue>
#include <vector>

namespace nibble::engine {

// Longer words are merged in parts of this size, so that what one word costs is bounded.
inline constexpr size_t kMaxWordBytes = size_t{16} << 20;

// A stretch of the word that is one token so far, or (id -1) one character that is none.
struct Symbol {
  int32_t id = -1;
  uint32_t begin = 0;  // byte offset in the word
  uint32_t length = 0;
};

struct Merge {
  int32_t id = -1;    // -1: the two form no token
  double rank = 0.0;  // lower is better
};

namespace merge_internal {

inline constexpr size_t kShortWord = 24;

// Quadratic, but on a few dozen neighbours in one cache line quicker than any queue.
template <typename FindMerge>
void MergeShort(std::vector<Symbol>& symbols, std::vector<Merge>& pairs, FindMerge find_merge) {
  pairs.clear();
  for (size_t i = 0; i + 1 < symbols.size(); ++i) pairs.push_back(find_merge(symbols[i], symbols[i + 1]));
  while (true) {
    size_t best = pairs.size();
    for (size_t i = 0; i < pairs.size(); ++i) {
      if (pairs[i].id >= 0 && (best == pairs.size() || pairs[i].rank < pairs[best].rank)) best = i;
    }
    if (best == pairs.size()) return;
    symbols[best].id = pairs[best].id;
    symbols[best].length += symbols[best + 1].length;
    symbols.erase(symbols.begin() + static_cast<ptrdiff_t>(best) + 1);
    pairs.erase(pairs.begin() + static_cast<ptrdiff_t>(best));
    if (best > 0) pairs[best - 1] = find_merge(symbols[best - 1], symbols[best]);
    if (best < pairs.size()) pairs[best] = find_merge(symbols[best], symbols[best + 1]);
  }
}

struct Candidate {
  double rank;
  uint32_t left, right;                // indices of symbols
  uint32_t left_length, right_length;  // as they were when this was queued: if they grew since, it is stale
  int32_t id;
  bool operator<(const Candidate& other) const {  // the queue's top is the greatest
    return rank != other.rank ? rank > other.rank : left > other.left;
  }
};

inline constexpr uint32_t kNone = ~uint32_t{0};

template <typename FindMerge>
class LongWord {
 public:
  LongWord(std::vector<Symbol>& symbols, FindMerge find_merge)
      : symbols_(symbols), find_merge_(find_merge), previous_(symbols.size()), next_(symbols.size()) {
    for (uint32_t i = 0; i < symbols.size(); ++i) {
      previous_[i] = i == 0 ? kNone : i - 1;
      next_[i] = i + 1 == symbols.size() ? kNone : i + 1;
    }
  }

  void Run() {
    for (uint32_t i = 0; i + 1 < symbols_.size(); ++i) Enqueue(i, i + 1);
    while (!queue_.empty()) {
      const Candidate candidate = queue_.top();
      queue_.pop();
      if (!IsStale(candidate)) Apply(candidate);
    }
    std::erase_if(symbols_, [](const Symbol& symbol) { return symbol.length == 0; });
  }

 private:
  void Enqueue(uint32_t left, uint32_t right) {
    if (left == kNone || right == kNone) return;
    const Merge merge = find_merge_(symbols_[left], symbols_[right]);
    if (merge.id < 0) return;
    queue_.push({merge.rank, left, right, symbols_[left].length, symbols_[right].length, merge.id});
  }

  bool IsStale(const Candidate& candidate) const {
    return symbols_[candidate.left].length != candidate.left_length ||
           symbols_[candidate.right].length != candidate.right_length;
  }

  void Apply(const Candidate& candidate) {
    Symbol& left = symbols_[candidate.left];
    Symbol& right = symbols_[candidate.right];
    left.id = candidate.id;
    left.length += right.length;
    right.length = 0;
    const uint32_t after = next_[candidate.right];
    next_[candidate.left] = after;
    if (after != kNone) previous_[after] = candidate.left;
    Enqueue(previous_[candidate.left], candidate.left);
    Enqueue(candidate.left, after);
  }

  std::vector<Symbol>& symbols_;
  FindMerge find_merge_;
  std::vector<uint32_t> previous_, next_;
  std::priority_queue<Candidate> queue_;
};

}  // namespace merge_internal

// Merges `symbols`, all of length >= 1, in place. `find_merge(const Symbol& left, const Symbol& right) -> Merge` says
// what two neighbours form. `scratch` is only memory to reuse.
template <typename FindMerge>
void MergeSymbols(std::vector<Symbol>& symbols, std::vector<Merge>& scratch, FindMerge find_merge) {
  if (symbols.size() <= merge_internal::kShortWord) {
    merge_internal::MergeShort(symbols, scratch, find_merge);
  } else {
    merge_internal::LongWord(symbols, find_merge).Run();
  }
}

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_TOKENIZER_MERGE_H_
