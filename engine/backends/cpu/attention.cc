#include "engine/backends/cpu/attention.h"

#include <algorithm>

namespace nibble::engine {
namespace {

// Partial results that split tiles may hold at once: 64 MiB.
constexpr int64_t kMaxPartialFloats = int64_t{16} << 20;

// Query rows of a tile: enough to share a page load, few enough that scores stay in the L2 cache.
constexpr int kTileQueries = 48;

int Group(const AttentionShape& shape) { return shape.num_heads / shape.num_kv_heads; }

}  // namespace

CpuAttention::CpuAttention(simd::Isa isa, WorkerPool& pool, const KvPool& kv)
    : codec_(kv.codec().raw_form(isa)),
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
                    [&](int64_t i, int thread) { RunTile(tiles_[i], call, scratch_[thread]); });
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

void CpuAttention::RunTile(const Tile& tile, const AttentionCall& call, Scratch& scratch) {
  LoadQueries(tile, call, scratch);
  RunSegment(tile, call, tile.first_segment, scratch, scratch.running);
  for (int64_t segment = tile.first_segment + 1; segment < tile.end_segment; ++segment) {
    RunSegment(tile, call, segment, scratch, scratch.next);
    JoinSegment(tile, call, segment, scratch.running, scratch.next);
  }
  WriteOut(tile, call, scratch.running);
}

void CpuAttention::RunSplit(const AttentionCall& call) {
  work_.clear();
  for (size_t t = 0; t < tiles_.size(); ++t) {
    tiles_[t].partial = static_cast<int64_t>(work_.size());
    for (int64_t s = tiles_[t].first_segment; s < tiles_[t].end_segment; ++s) work_.emplace_back(t, s);
  }
  if (partials_.size() < work_.size()) partials_.resize(work_.size());
  pool_.ParallelFor(static_cast<int64_t>(work_.size()), [&](int64_t i, int thread) {
    const Tile& tile = tiles_[work_[i].first];
    LoadQueries(tile, call, scratch_[thread]);
    RunSegment(tile, call, work_[i].second, scratch_[thread], partials_[i]);
  });
  pool_.ParallelFor(static_cast<int64_t>(tiles_.size()), [&](int64_t i, int) {
    const Tile& tile = tiles_[i];
    Partial& running = partials_[tile.partial];
    for (int64_t segment = tile.first_segment + 1; segment < tile.end_segment; ++segment) {
      JoinSegment(tile, call, segment, running, partials_[tile.partial + segment - tile.first_segment]);
    }
    WriteOut(tile, call, running);
  });
}

void CpuAttention::LoadQueries(const Tile& tile, const AttentionCall& call, Scratch& scratch) {
  const int group = Group(call.shape), dim = call.shape.head_dim;
  scratch.queries.resize(static_cast<size_t>(tile.rows) * group * dim);
  for (int r = 0; r < tile.rows; ++r) {
    const float* source = call.qkv.row(tile.first_row + r) + static_cast<int64_t>(tile.kv_head) * group * dim;
    float* queries = &scratch.queries[static_cast<size_t>(r) * group * dim];
    std::copy_n(source, group * dim, queries);
    row_kernels_.scale(call.scale, group * dim, queries);
  }
}

CpuAttention::Range CpuAttention::Visible(const Tile& tile, const AttentionCall& call, int row, int64_t start,
                                          int64_t tokens) {
  const int64_t position = tile.position + row;
  const int64_t earliest = call.window > 0 ? std::max<int64_t>(0, position - call.window + 1) : 0;
  return {std::clamp<int64_t>(earliest - start, 0, tokens), std::clamp<int64_t>(position + 1 - start, 0, tokens)};
}

void CpuAttention::RunSegment(const Tile& tile, const AttentionCall& call, int64_t segment, Scratch& scratch,
                              Partial& partial) {
  const int group = Group(call.shape), dim = call.shape.head_dim, queries = tile.rows * group;
  const int64_t start = segment * kSegmentTokens, first_page = segment * kSegmentPages;
  const int64_t end_page = std::min(first_page + kSegmentPages, (tile.position + tile.rows - 1) / kv::kPageTokens + 1);
  const int64_t seen_from = Visible(tile, call, 0, start, kSegmentTokens).first / kv::kPageTokens + first_page;
  scratch.scores.resize(static_cast<size_t>(queries) * kSegmentTokens);
  for (int64_t page = seen_from; page < end_page; ++page) {
    codec_.scores({kv_.Head(tile.sequence->pages[page], call.layer, tile.kv_head), dim, scratch.queries.data(), dim,
                   queries, &scratch.scores[(page - first_page) * kv::kPageTokens], kSegmentTokens});
  }
  const int64_t tokens = (end_page - first_page) * kv::kPageTokens;
  partial.states.resize(queries);
  partial.mixed.assign(static_cast<size_t>(queries) * dim, 0.0f);
  for (int q = 0; q < queries; ++q) {
    const Range visible = Visible(tile, call, q / group, start, tokens);
    if (visible.first >= visible.last) continue;
    float* scores = &scratch.scores[static_cast<size_t>(q) * kSegmentTokens];
    if (call.softcap > 0) row_kernels_.soft_cap(call.softcap, visible.last - visible.first, scores + visible.first);
    partial.states[q] = kernels_.softmax(scores, tokens, visible.first, visible.last);
  }
  for (int64_t page = seen_from; page < end_page; ++page) {
    MixPage(tile, call, page, &scratch.scores[(page - first_page) * kv::kPageTokens], partial);
  }
}

void CpuAttention::MixPage(const Tile& tile, const AttentionCall& call, int64_t page, const float* weights,
                           Partial& partial) {
  const int group = Group(call.shape), dim = call.shape.head_dim;
  const int64_t start = page * kv::kPageTokens;
  const std::byte* bytes = kv_.Head(tile.sequence->pages[page], call.layer, tile.kv_head);
  const Range last_row = Visible(tile, call, tile.rows - 1, start, kv::kPageTokens);
  const Range first_row = Visible(tile, call, 0, start, kv::kPageTokens);
  if (last_row.first == 0 && first_row.last == kv::kPageTokens) {
    codec_.mix({bytes, dim, weights, kSegmentTokens, tile.rows * group, 0, kv::kPageTokens, partial.mixed.data(), dim});
    return;
  }
  // Each row sees its own part of the page, and what it does not see may never have been written.
  for (int r = 0; r < tile.rows; ++r) {
    const Range visible = Visible(tile, call, r, start, kv::kPageTokens);
    if (visible.first >= visible.last) continue;
    codec_.mix({bytes, dim, weights + static_cast<int64_t>(r) * group * kSegmentTokens, kSegmentTokens, group,
                static_cast<int>(visible.first), static_cast<int>(visible.last),
                &partial.mixed[static_cast<size_t>(r) * group * dim], dim});
  }
}

void CpuAttention::JoinSegment(const Tile& tile, const AttentionCall& call, int64_t segment, Partial& running,
                               const Partial& next) {
  const int group = Group(call.shape), dim = call.shape.head_dim;
  const int64_t start = segment * kSegmentTokens;
  for (int q = 0; q < tile.rows * group; ++q) {
    const size_t at = static_cast<size_t>(q) * dim;
    const Range before = Visible(tile, call, q / group, start - kSegmentTokens, kSegmentTokens);
    if (before.first >= before.last) {  // the window begins later: nothing has been seen so far
      running.states[q] = next.states[q];
      std::copy_n(&next.mixed[at], dim, &running.mixed[at]);
    } else {
      kernels_.join(&running.states[q], &running.mixed[at], next.states[q], &next.mixed[at], dim);
    }
  }
}

void CpuAttention::WriteOut(const Tile& tile, const AttentionCall& call, const Partial& partial) {
  const int group = Group(call.shape), dim = call.shape.head_dim;
  for (int r = 0; r < tile.rows; ++r) {
    float* out = call.out.row(tile.first_row + r) + static_cast<int64_t>(tile.kv_head) * group * dim;
    for (int h = 0; h < group; ++h) {
      const int q = r * group + h;
      kernels_.finish(partial.states[q], &partial.mixed[static_cast<size_t>(q) * dim], dim, out + h * dim);
    }
  }
}

}  // namespace nibble::engine
