// Attention over pages on the CPU.
//
// The visible positions of a query are cut into segments of 8 pages, counted from position 0 whoever asks. Inside a
// segment: scores of all its tokens, one maximum, exponentials, their sum in sixteen virtual lanes, the mix of the
// values with tokens ascending. Pages that the page-banded rule gives sealed are scored and mixed by their codec, in
// its own space, and come back from it once per row. Segments join in order by the online-softmax rule (Milakov &
// Gimelshein 2018; as in FlashAttention). So the bits of a row depend on its positions alone: not on the chunk it came
// in, on how many rows share a page load, nor on which worker ran which segment (law 1).
#ifndef NIBBLE_ENGINE_BACKENDS_CPU_ATTENTION_H_
#define NIBBLE_ENGINE_BACKENDS_CPU_ATTENTION_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/backends/backend.h"
#include "engine/backends/cpu/attention_kernels.h"
#include "engine/backends/cpu/kv_pool.h"
#include "engine/backends/cpu/row_kernels.h"
#include "engine/backends/cpu/worker_pool.h"
#include "kvcache/codecs/page_codec.h"
#include "kvcache/codecs/raw_form.h"
#include "kvcache/simd/isa.h"

namespace nibble::engine {

inline constexpr int kSegmentPages = 8;
inline constexpr int kSegmentTokens = kSegmentPages * kv::kPageTokens;

struct AttentionCall {
  AttentionShape shape;
  int layer = 0;
  float scale = 1.0f;
  int64_t window = 0;    // 0: none
  float softcap = 0.0f;  // 0: none
  View qkv;              // queries in the leading num_heads * head_dim columns
  View out;              // [rows, num_heads * head_dim]
};

class CpuAttention {
 public:
  // `pool` and `kv` must outlive it.
  CpuAttention(simd::Isa isa, WorkerPool& pool, const KvPool& kv);

  void Run(absl::Span<const SequenceRows> batch, const AttentionCall& call);

 private:
  // Rows of one sequence that lie in one page, for one KV head: they share every page load. Its query rows are the
  // group's heads of each row: row r, head h is query row r * group + h.
  struct Tile {
    const SequenceRows* sequence;
    int64_t first_row;  // of the batch
    int rows;
    int64_t position;  // of the first row
    int kv_head;
    int64_t first_segment, end_segment;  // that any of its rows sees
    int64_t partial;                     // index of its first segment's results in partials_, where segments run apart
  };
  // The state and mix of every query row over one segment.
  struct Partial {
    std::vector<SoftmaxState> states;
    std::vector<float> mixed;  // [queries, head_dim], of raw pages
    std::vector<float> coded;  // [queries, mix_floats], of sealed pages, in the codec's own space
  };
  // A tile's queries, scaled, and as the codec takes them.
  struct Queries {
    std::vector<float> rows, prepared;
  };
  struct Scratch {
    Queries queries;
    std::vector<float> scores;
    std::vector<const std::byte*> sealed, ahead;
    Partial running, next;
  };
  // One of a tile's segments, and one of its query rows.
  struct TileSegment {
    size_t tile;
    int64_t segment;
  };
  struct TileQuery {
    size_t tile;
    int query;
  };
  // Half-open range of tokens, or of pages.
  struct Range {
    int64_t first, last;
  };

  void MakeTiles(absl::Span<const SequenceRows> batch, const AttentionCall& call);
  bool PaysToSplit(const AttentionCall& call) const;
  void RunTile(size_t t, const AttentionCall& call, Scratch& scratch);
  void RunSplit(const AttentionCall& call);
  void ListParts(int group);
  void LoadQueries(const Tile& tile, const AttentionCall& call, Queries& queries) const;
  // `ahead`: what runs next, whose keys are asked for, or nullptr.
  void RunSegment(const TileSegment& at, const AttentionCall& call, const Queries& queries, const TileSegment* ahead,
                  Scratch& scratch, Partial& partial);
  void ScoreSegment(const Tile& tile, const AttentionCall& call, int64_t segment, const Range& pages,
                    const Queries& queries, Scratch& scratch);
  void MixSegment(const Tile& tile, const AttentionCall& call, int64_t segment, const Range& pages,
                  const kv::PagesAhead& ahead, Scratch& scratch, Partial& partial);
  void MixPage(const Tile& tile, const AttentionCall& call, int64_t page, const float* weights, Partial& partial);
  KvPool::PageRange SealedOf(const Tile& tile, const Range& pages) const;
  // Of one head, those of `sealed`.
  void ListPages(const Tile& tile, const AttentionCall& call, const KvPool::PageRange& sealed,
                 std::vector<const std::byte*>& pages) const;
  kv::PagesAhead ListAhead(const TileSegment* ahead, const AttentionCall& call, Scratch& scratch) const;
  // Of one query row of the tile.
  void JoinSegment(const Tile& tile, const AttentionCall& call, int query, int64_t segment, Partial& running,
                   const Partial& next);
  void WriteOut(const Tile& tile, const AttentionCall& call, int query, Partial& partial);
  // The pages of a segment that a tile sees.
  static Range PagesOf(const Tile& tile, const AttentionCall& call, int64_t segment);
  static Range Visible(const Tile& tile, const AttentionCall& call, int row, int64_t start, int64_t tokens);

  const kv::RawForm& raw_form_;
  const kv::PageCodec* const codec_;  // nullptr: every page is raw
  const AttentionKernels& kernels_;
  const RowKernels& row_kernels_;
  WorkerPool& pool_;
  const KvPool& kv_;
  std::vector<Tile> tiles_;
  std::vector<Scratch> scratch_;  // per thread
  // Where segments run apart: of each tile, and of each tile and segment.
  std::vector<Queries> queries_;
  std::vector<Partial> partials_;
  std::vector<TileSegment> segments_;
  std::vector<TileQuery> tile_queries_;
};

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_BACKENDS_CPU_ATTENTION_H_
