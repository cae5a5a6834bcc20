#include "engine/quant/calibration/attention_sensitivity.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "engine/quant/calibration/eigen.h"
#include "engine/quant/calibration/seeded_random.h"
#include "engine/quant/calibration/sensitivity_kernels.h"
#include "kvcache/codecs/raw_form.h"

namespace nibble::engine {
namespace {

using RowMatrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using StridedRows = Eigen::Map<const RowMatrix, 0, Eigen::OuterStride<>>;

// Pages whose frame one query is counted in.
constexpr int kFramesPerQuery = 4;
constexpr int64_t kMetricRows = 256;  // queries whose outer products are summed at once

StridedRows Rows(const HeadRows& rows, int64_t count, int head_dim) {
  return {rows.data, count, head_dim, Eigen::OuterStride<>(rows.stride)};
}

std::vector<float> ChannelMajor(const HeadRows& rows, int64_t tokens, int head_dim, int64_t pages) {
  std::vector<float> blocks(static_cast<size_t>(pages * head_dim * kv::kPageTokens));
  for (int64_t t = 0; t < tokens; ++t) {
    float* block = blocks.data() + t / kv::kPageTokens * head_dim * kv::kPageTokens + t % kv::kPageTokens;
    for (int d = 0; d < head_dim; ++d) block[d * kv::kPageTokens] = rows.row(t)[d];
  }
  return blocks;
}

// One query head at work.
class QueryHead {
 public:
  QueryHead(const KvBlocks& blocks, const QueryHeadTrace& trace, const SpanFrame& frame, const SealedRule& rule,
            int stride, uint64_t seed, simd::Isa isa)
      : blocks_(blocks),
        kv_(blocks.trace()),
        trace_(trace),
        frame_(frame),
        rule_(rule),
        stride_(stride),
        random_(seed),
        kernels_(SensitivityKernelsFor(isa)),
        raw_(kv::RawFormF32(isa)),
        padded_(blocks.pages() * kv::kPageTokens),
        page_weights_(static_cast<size_t>(blocks.pages())),
        metric_rows_(kMetricRows, kv_.head_dim),
        metric_(Eigen::MatrixXd::Zero(kv_.head_dim, kv_.head_dim)) {
    result_.value_weights.resize(static_cast<size_t>(padded_));
    result_.key_weights.resize(static_cast<size_t>(padded_));
    const Eigen::Map<const RowMatrix> gram(trace.gram.data(), kv_.head_dim, kv_.head_dim);
    const StridedRows values = Rows(kv_.values, kv_.tokens, kv_.head_dim);
    value_energies_ = Eigen::VectorXf::Zero(padded_);
    value_energies_.head(kv_.tokens) = (values * gram).cwiseProduct(values).rowwise().sum();
    crossing_queries_ = Rows(trace.outputs, kv_.tokens, kv_.head_dim) * gram;
  }

  QueryHeadSensitivity Run() {
    for (int64_t page = rule_.sink_pages + rule_.window_pages + 1; page < blocks_.pages(); ++page) RunPage(page);
    FlushMetric();
    result_.value_weights.resize(static_cast<size_t>(kv_.tokens));
    result_.key_weights.resize(static_cast<size_t>(kv_.tokens));
    result_.key_metric.assign(metric_.data(), metric_.data() + metric_.size());
    return std::move(result_);
  }

 private:
  void RunPage(int64_t page) {
    const int64_t first =
        page * kv::kPageTokens + static_cast<int64_t>(random_.Next() % static_cast<uint64_t>(stride_));
    const int rows =
        static_cast<int>((std::min(kv_.tokens, (page + 1) * kv::kPageTokens) - first + stride_ - 1) / stride_);
    if (rows <= 0) return;
    const int64_t width = (page + 1) * kv::kPageTokens;
    scores_.resize(rows, width);
    crossings_.resize(rows, width);
    for (int64_t p = 0; p <= page; ++p) {
      Score(blocks_.keys(p), trace_.queries.row(first), stride_ * trace_.queries.stride, rows, p, scores_);
      Score(blocks_.values(p), crossing_queries_.row(first).data(), stride_ * kv_.head_dim, rows, p, crossings_);
    }
    for (int r = 0; r < rows; ++r) AddQuery(first + r * stride_, page, scores_.row(r).data(), crossings_.row(r).data());
  }

  void Score(const float* block, const float* queries, int64_t query_stride, int rows, int64_t page, RowMatrix& out) {
    kv::RawScoresArgs args;
    args.page = reinterpret_cast<const std::byte*>(block);
    args.head_dim = kv_.head_dim;
    args.queries = queries;
    args.query_stride = query_stride;
    args.rows = rows;
    args.scores = out.data() + page * kv::kPageTokens;
    args.score_stride = out.cols();
    raw_.scores(args);
  }

  void AddQuery(int64_t position, int64_t page, float* scores, const float* crossings) {
    const int64_t width = (page + 1) * kv::kPageTokens;
    const int64_t first_seen = trace_.window > 0 ? std::max<int64_t>(0, position + 1 - trace_.window) : 0;
    for (int64_t t = 0; t < width; ++t) scores[t] = Capped(scores[t] * trace_.scale);
    constexpr float kHidden = -std::numeric_limits<float>::infinity();
    std::fill(scores, scores + first_seen, kHidden);
    std::fill(scores + position + 1, scores + width, kHidden);
    kernels_.softmax(scores, width);
    const float* query = trace_.queries.row(position);
    const float* output = trace_.outputs.row(position);
    const float share = trace_.shares[static_cast<size_t>(position)] * static_cast<float>(stride_);
    const float energy =
        std::inner_product(query, query + kv_.head_dim, query, 0.0f) / static_cast<float>(kv_.head_dim);
    QuerySensitivityArgs args;
    args.probabilities = scores;
    args.crossings = crossings;
    args.value_energies = value_energies_.data();
    args.output_energy =
        std::inner_product(output, output + kv_.head_dim, crossing_queries_.row(position).data(), 0.0f);
    args.value_factor = share;
    args.key_factor = share * trace_.scale * trace_.scale * energy;
    args.first = rule_.sink_pages * kv::kPageTokens;
    args.last = (page - rule_.window_pages) * kv::kPageTokens;
    args.value_weights = result_.value_weights.data();
    args.key_weights = result_.key_weights.data();
    args.page_weights = page_weights_.data();
    kernels_.add_query(args);
    if (energy > 0) AddToMetric(query, energy, page - rule_.window_pages);
  }

  float Capped(float score) const {
    return trace_.softcap > 0 ? trace_.softcap * std::tanh(score / trace_.softcap) : score;
  }

  // Counts the query in the frames of kFramesPerQuery pages drawn by their weights, each with an equal part of their
  // sum.
  void AddToMetric(const float* query, float energy, int64_t end_page) {
    double total = 0.0;
    for (int64_t page = rule_.sink_pages; page < end_page; ++page) total += page_weights_[static_cast<size_t>(page)];
    const double part = total / kFramesPerQuery;
    if (!(part > 0)) return;
    double next = random_.Uniform() * part, sum = 0.0;
    for (int64_t page = rule_.sink_pages; page < end_page; ++page) {
      sum += page_weights_[static_cast<size_t>(page)];
      int times = 0;
      for (; next < sum; next += part) ++times;
      if (times > 0) AddMetricRow(query, std::sqrt(static_cast<float>(times * part) / energy), page);
    }
  }

  void AddMetricRow(const float* query, float factor, int64_t page) {
    if (metric_count_ == kMetricRows) FlushMetric();
    float* row = metric_rows_.row(metric_count_++).data();
    for (int d = 0; d < kv_.head_dim; ++d) row[d] = factor * query[d];
    frame_.TurnBack(page, row);
  }

  void FlushMetric() {
    const auto rows = metric_rows_.topRows(metric_count_);
    metric_ += (rows.transpose() * rows).cast<double>();
    metric_count_ = 0;
  }

  const KvBlocks& blocks_;
  const KvHeadTrace& kv_;
  const QueryHeadTrace& trace_;
  const SpanFrame& frame_;
  const SealedRule rule_;
  const int stride_;
  SeededRandom random_;
  const SensitivityKernels& kernels_;
  const kv::RawForm& raw_;
  const int64_t padded_;  // tokens of whole pages
  QueryHeadSensitivity result_;
  Eigen::VectorXf value_energies_;
  RowMatrix crossing_queries_;  // [tokens, head_dim]: o G
  RowMatrix scores_, crossings_;
  std::vector<float> page_weights_;
  RowMatrix metric_rows_;
  int64_t metric_count_ = 0;
  Eigen::MatrixXd metric_;
};

}  // namespace

KvBlocks::KvBlocks(const KvHeadTrace& trace)
    : trace_(trace),
      pages_(kv::PagesFor(trace.tokens)),
      keys_(ChannelMajor(trace.keys, trace.tokens, trace.head_dim, pages_)),
      values_(ChannelMajor(trace.values, trace.tokens, trace.head_dim, pages_)) {}

QueryHeadSensitivity MeasureQueryHead(const KvBlocks& blocks, const QueryHeadTrace& trace, const SpanFrame& frame,
                                      const SealedRule& rule, int query_stride, uint64_t seed, simd::Isa isa) {
  return QueryHead(blocks, trace, frame, rule, query_stride, seed, isa).Run();
}

}  // namespace nibble::engine
