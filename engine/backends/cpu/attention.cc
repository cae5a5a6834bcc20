#include "engine/backends/cpu/attention.h"

#include <algorithm>
#include <cstring>

namespace nibble::engine {
namespace {

// Partial results that split tiles may hold at once: 64 MiB.
constexpr int64_t kMaxPartialFloats = int64_t{16} << 20;

// Query rows of a tile: enough to share a page load, few enough that scores stay in the L2 cache.
constexpr int kTileQueries = 48;

// (assign() stores one float at a time.)
void Clear(size_t count, std::vector<float>& floats) {
  floats.resize(count);
  std::memset(floats.data(), 0, count * sizeof(float));
}

int Group(const AttentionShape& shape) { return shape.num_heads / shape.num_kv_heads; }

}  // namespace

CpuAttention::CpuAttention(simd::Isa isa, WorkerPool& pool, const KvPool& kv)
    : raw_form_(kv.raw_form()),
      codec_(kv.codec()),
      kernels_(AttentionKernelsFor(isa)),
      row_kernels_(RowKernelsFor(isa)),
      pool_(pool),
      kv_(kv),
      scratch_(pool.threads()) {}

void CpuAttention::Run(absl::Span<const SequenceRows> batch, const AttentionCall& call) {
  MakeTiles(batch, call);
  if (PaysToSplit(call)) {
    RunSplit(call);
    return;
  }
  pool_.ParallelFor(static_cast<int64_t>(tiles_.size()),
                    [&](int64_t i, int thread) { RunTile(i, call, scratch_[thread]); });
}

// Few tiles with long histories (decode): their segments run apart, so that every worker has work.
bool CpuAttention::PaysToSplit(const AttentionCall& call) const {
  if (pool_.threads() == 1 || static_cast<int>(tiles_.size()) >= 8 * pool_.threads()) return false;
  int64_t segments = 0, floats = 0;
  for (const Tile& tile : tiles_) {
    const int64_t count = tile.end_segment - tile.first_segment;
    segments += count;
    floats += count * tile.rows * Group(call.shape) * call.shape.head_dim;
  }
  return segments > static_cast<int64_t>(tiles_.size()) && floats <= kMaxPartialFloats;
}

void CpuAttention::MakeTiles(absl::Span<const SequenceRows> batch, const AttentionCall& call) {
  tiles_.clear();
  const int max_rows = std::max(1, kTileQueries / Group(call.shape));
  for (const SequenceRows& sequence : batch) {
    for (int64_t row = 0; row < sequence.num_rows;) {
      const int64_t position = sequence.position + row;
      const int64_t to_page_end = kv::kPageTokens - position % kv::kPageTokens;
      const int rows = static_cast<int>(std::min<int64_t>({max_rows, to_page_end, sequence.num_rows - row}));
      const int64_t earliest = call.window > 0 ? std::max<int64_t>(0, position - call.window + 1) : 0;
      const int64_t end_segment = (position + rows - 1) / kSegmentTokens + 1;
      for (int head = 0; head < call.shape.num_kv_heads; ++head) {
        tiles_.push_back(
            {&sequence, sequence.first_row + row, rows, position, head, earliest / kSegmentTokens, end_segment, 0});
      }
      row += rows;
    }
  }
}

void CpuAttention::RunTile(size_t t, const AttentionCall& call, Scratch& scratch) {
  const Tile& tile = tiles_[t];
  const int queries = tile.rows * Group(call.shape);
  LoadQueries(tile, call, scratch.queries);
  for (int64_t segment = tile.first_segment; segment < tile.end_segment; ++segment) {
    const bool is_first = segment == tile.first_segment;
    const TileSegment next = {t, segment + 1};
    RunSegment({t, segment}, call, scratch.queries, next.segment < tile.end_segment ? &next : nullptr, scratch,
               is_first ? scratch.running : scratch.next);
    if (is_first) continue;
    for (int q = 0; q < queries; ++q) JoinSegment(tile, call, q, segment, scratch.running, scratch.next);
  }
  for (int q = 0; q < queries; ++q) WriteOut(tile, call, q, scratch.running);
}

void CpuAttention::ListParts(int group) {
  segments_.clear();
  tile_queries_.clear();
  for (size_t t = 0; t < tiles_.size(); ++t) {
    Tile& tile = tiles_[t];
    tile.partial = static_cast<int64_t>(segments_.size());
    for (int64_t segment = tile.first_segment; segment < tile.end_segment; ++segment) segments_.push_back({t, segment});
    for (int q = 0; q < tile.rows * group; ++q) tile_queries_.push_back({t, q});
  }
  if (partials_.size() < segments_.size()) partials_.resize(segments_.size());
}

// A worker takes neighbouring segments in runs, so that it reads memory in a row.
void CpuAttention::RunSplit(const AttentionCall& call) {
  ListParts(Group(call.shape));
  if (queries_.size() < tiles_.size()) queries_.resize(tiles_.size());
  for (size_t t = 0; t < tiles_.size(); ++t) LoadQueries(tiles_[t], call, queries_[t]);
  pool_.ParallelRuns(static_cast<int64_t>(segments_.size()), [&](int64_t first, int64_t end, int thread) {
    for (int64_t i = first; i < end; ++i) {
      // A thread's next run mostly begins where this one ends.
      const TileSegment* ahead = i + 1 < static_cast<int64_t>(segments_.size()) ? &segments_[i + 1] : nullptr;
      RunSegment(segments_[i], call, queries_[segments_[i].tile], ahead, scratch_[thread], partials_[i]);
    }
  });
  pool_.ParallelFor(static_cast<int64_t>(tile_queries_.size()), [&](int64_t i, int) {
    const auto [t, query] = tile_queries_[i];
    const Tile& tile = tiles_[t];
    Partial& running = partials_[tile.partial];
    for (int64_t segment = tile.first_segment + 1; segment < tile.end_segment; ++segment) {
      JoinSegment(tile, call, query, segment, running, partials_[tile.partial + segment - tile.first_segment]);
    }
    WriteOut(tile, call, query, running);
  });
}

void CpuAttention::LoadQueries(const Tile& tile, const AttentionCall& call, Queries& queries) const {
  const int group = Group(call.shape), dim = call.shape.head_dim;
  queries.rows.resize(static_cast<size_t>(tile.rows) * group * dim);
  for (int r = 0; r < tile.rows; ++r) {
    const float* source = call.qkv.row(tile.first_row + r) + static_cast<int64_t>(tile.kv_head) * group * dim;
    float* rows = &queries.rows[static_cast<size_t>(r) * group * dim];
    std::copy_n(source, group * dim, rows);
    row_kernels_.scale(call.scale, group * dim, rows);
  }
  if (codec_ == nullptr) return;
  queries.prepared.resize(static_cast<size_t>(tile.rows) * group * codec_->query_floats());
  codec_->PrepareQueries({call.layer, tile.kv_head}, queries.rows.data(), tile.rows * group, queries.prepared.data());
}

CpuAttention::Range CpuAttention::Visible(const Tile& tile, const AttentionCall& call, int row, int64_t start,
                                          int64_t tokens) {
  const int64_t position = tile.position + row;
  const int64_t earliest = call.window > 0 ? std::max<int64_t>(0, position - call.window + 1) : 0;
  return {std::clamp<int64_t>(earliest - start, 0, tokens), std::clamp<int64_t>(position + 1 - start, 0, tokens)};
}

CpuAttention::Range CpuAttention::PagesOf(const Tile& tile, const AttentionCall& call, int64_t segment) {
  const int64_t first = segment * kSegmentPages, last_row = tile.position + tile.rows - 1;
  const int64_t unseen = Visible(tile, call, 0, segment * kSegmentTokens, kSegmentTokens).first / kv::kPageTokens;
  return {first + unseen, std::min(first + kSegmentPages, last_row / kv::kPageTokens + 1)};
}

void CpuAttention::RunSegment(const TileSegment& at, const AttentionCall& call, const Queries& queries,
                              const TileSegment* ahead, Scratch& scratch, Partial& partial) {
  const Tile& tile = tiles_[at.tile];
  const int64_t segment = at.segment;
  const int group = Group(call.shape), dim = call.shape.head_dim, rows = tile.rows * group;
  const int64_t start = segment * kSegmentTokens;
  const Range pages = PagesOf(tile, call, segment);
  ScoreSegment(tile, call, segment, pages, queries, scratch);
  const int64_t tokens = pages.last * kv::kPageTokens - start;
  partial.states.resize(rows);
  Clear(static_cast<size_t>(rows) * dim, partial.mixed);
  if (codec_ != nullptr) Clear(static_cast<size_t>(rows) * codec_->mix_floats(), partial.coded);
  for (int q = 0; q < rows; ++q) {
    const Range visible = Visible(tile, call, q / group, start, tokens);
    float* scores = &scratch.scores[static_cast<size_t>(q) * kSegmentTokens];
    if (visible.first >= visible.last) {
      std::fill_n(scores, tokens, 0.0f);
      continue;
    }
    if (call.softcap > 0) row_kernels_.soft_cap(call.softcap, visible.last - visible.first, scores + visible.first);
    partial.states[q] = kernels_.softmax(scores, tokens, visible.first, visible.last);
  }
  MixSegment(tile, call, segment, pages, ListAhead(ahead, call, scratch), scratch, partial);
}

// All rows of a tile lie in one page, so that one rule holds for them.
KvPool::PageRange CpuAttention::SealedOf(const Tile& tile, const Range& pages) const {
  return kv_.SealedIn(tile.position / kv::kPageTokens, pages.first, pages.last);
}

void CpuAttention::ListPages(const Tile& tile, const AttentionCall& call, const KvPool::PageRange& sealed,
                             std::vector<const std::byte*>& pages) const {
  pages.clear();
  for (int64_t page = sealed.first; page < sealed.end; ++page) {
    pages.push_back(kv_.Sealed(tile.sequence->pages[page], {call.layer, tile.kv_head}));
  }
}

kv::PagesAhead CpuAttention::ListAhead(const TileSegment* ahead, const AttentionCall& call, Scratch& scratch) const {
  if (codec_ == nullptr || ahead == nullptr) return {};
  const Tile& tile = tiles_[ahead->tile];
  ListPages(tile, call, SealedOf(tile, PagesOf(tile, call, ahead->segment)), scratch.ahead);
  return {{call.layer, tile.kv_head}, scratch.ahead};
}

void CpuAttention::ScoreSegment(const Tile& tile, const AttentionCall& call, int64_t segment, const Range& pages,
                                const Queries& queries, Scratch& scratch) {
  const int dim = call.shape.head_dim, rows = tile.rows * Group(call.shape);
  const kv::HeadId head = {call.layer, tile.kv_head};
  scratch.scores.resize(static_cast<size_t>(rows) * kSegmentTokens);
  const auto scores_of = [&](int64_t page) {
    return &scratch.scores[(page - segment * kSegmentPages) * kv::kPageTokens];
  };
  const KvPool::PageRange sealed = SealedOf(tile, pages);
  for (int64_t page = pages.first; page < pages.last; ++page) {
    if (page >= sealed.first && page < sealed.end) continue;
    raw_form_.scores(
        {kv_.Raw(*tile.sequence, page, head), dim, queries.rows.data(), dim, rows, scores_of(page), kSegmentTokens});
  }
  if (sealed.first < sealed.end) {
    ListPages(tile, call, sealed, scratch.sealed);
    codec_->Scores(head, {scratch.sealed, sealed.first}, queries.prepared.data(), rows, scores_of(sealed.first),
                   kSegmentTokens);
  }
}

void CpuAttention::MixSegment(const Tile& tile, const AttentionCall& call, int64_t segment, const Range& pages,
                              const kv::PagesAhead& ahead, Scratch& scratch, Partial& partial) {
  const auto weights_of = [&](int64_t page) {
    return &scratch.scores[(page - segment * kSegmentPages) * kv::kPageTokens];
  };
  const KvPool::PageRange sealed = SealedOf(tile, pages);
  for (int64_t page = pages.first; page < pages.last; ++page) {
    if (page < sealed.first || page >= sealed.end) MixPage(tile, call, page, weights_of(page), partial);
  }
  if (sealed.first < sealed.end) {
    const kv::PageRun run = {scratch.sealed, sealed.first, ahead};  // listed by ScoreSegment
    codec_->Mix({call.layer, tile.kv_head}, run, weights_of(sealed.first), kSegmentTokens,
                tile.rows * Group(call.shape), partial.coded.data());
  }
}

void CpuAttention::MixPage(const Tile& tile, const AttentionCall& call, int64_t page, const float* weights,
                           Partial& partial) {
  const int group = Group(call.shape), dim = call.shape.head_dim;
  const int64_t start = page * kv::kPageTokens;
  const std::byte* bytes = kv_.Raw(*tile.sequence, page, {call.layer, tile.kv_head});
  const Range last_row = Visible(tile, call, tile.rows - 1, start, kv::kPageTokens);
  const Range first_row = Visible(tile, call, 0, start, kv::kPageTokens);
  if (last_row.first == 0 && first_row.last == kv::kPageTokens) {
    raw_form_.mix(
        {bytes, dim, weights, kSegmentTokens, tile.rows * group, 0, kv::kPageTokens, partial.mixed.data(), dim});
    return;
  }
  // Each row sees its own part of the page, and what it does not see may never have been written.
  for (int r = 0; r < tile.rows; ++r) {
    const Range visible = Visible(tile, call, r, start, kv::kPageTokens);
    if (visible.first >= visible.last) continue;
    raw_form_.mix({bytes, dim, weights + static_cast<int64_t>(r) * group * kSegmentTokens, kSegmentTokens, group,
                   static_cast<int>(visible.first), static_cast<int>(visible.last),
                   &partial.mixed[static_cast<size_t>(r) * group * dim], dim});
  }
}

void CpuAttention::JoinSegment(const Tile& tile, const AttentionCall& call, int query, int64_t segment,
                               Partial& running, const Partial& next) {
  const int dim = call.shape.head_dim, row = query / Group(call.shape);
  const int64_t start = segment * kSegmentTokens, coded = codec_ == nullptr ? 0 : codec_->mix_floats();
  const Range before = Visible(tile, call, row, start - kSegmentTokens, kSegmentTokens);
  float *mixed = &running.mixed[query * dim], *running_coded = running.coded.data() + query * coded;
  const float *next_mixed = &next.mixed[query * dim], *next_coded = next.coded.data() + query * coded;
  if (before.first >= before.last) {  // the window begins later: nothing has been seen so far
    running.states[query] = next.states[query];
    std::copy_n(next_mixed, dim, mixed);
    std::copy_n(next_coded, coded, running_coded);
    return;
  }
  const JoinFactors factors = kernels_.join(running.states[query], next.states[query]);
  kernels_.blend(factors, dim, mixed, next_mixed);
  kernels_.blend(factors, coded, running_coded, next_coded);
}

void CpuAttention::WriteOut(const Tile& tile, const AttentionCall& call, int query, Partial& partial) {
  const int group = Group(call.shape), dim = call.shape.head_dim;
  float* mixed = &partial.mixed[static_cast<size_t>(query) * dim];
  // By the rule's own measure, so that a row's bits do not depend on what its tile has seen.
  const KvPool::PageRange sealed = SealedOf(tile, {0, tile.position / kv::kPageTokens});
  if (sealed.first < sealed.end) {
    codec_->FinishMix({call.layer, tile.kv_head}, partial.coded.data() + query * codec_->mix_floats(), 1, mixed);
  }
  float* out = call.out.row(tile.first_row + query / group);
  kernels_.finish(partial.states[query], mixed, dim, out + (int64_t{tile.kv_head} * group + query % group) * dim);
}

}  // namespace nibble::engine
