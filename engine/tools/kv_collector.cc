#include "engine/tools/kv_collector.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/models/kv_codec_model.h"
#include "engine/quant/calibration/eigen.h"
#include "engine/quant/calibration/seeded_random.h"
#include "kvcache/base/check.h"

namespace nibble::engine {
namespace {

using RowMatrixF = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// Samples of a head, in all, are not more than this: codebooks of a byte gain little beyond.
constexpr int64_t kMostSamples = 32768;
constexpr int64_t kLeastSamples = 64;  // of a head and sequence

constexpr float kLeastWeight = 1e-12f;

std::vector<double> Identity(int dim) {
  std::vector<double> matrix(static_cast<size_t>(dim) * static_cast<size_t>(dim));
  for (int d = 0; d < dim; ++d) matrix[static_cast<size_t>(d * dim + d)] = 1.0;
  return matrix;
}

HeadRows HeadOf(View view, int64_t first_col) { return {view.data + first_col, view.cols}; }

std::vector<float> Energies(const float* rows, int64_t count, int64_t cols) {
  std::vector<float> energies(static_cast<size_t>(count));
  Eigen::Map<Eigen::VectorXf>(energies.data(), count) =
      Eigen::Map<const RowMatrixF>(rows, count, cols).rowwise().squaredNorm();
  return energies;
}

RowMatrixF Decode(const Tensor& tensor) {
  RowMatrixF matrix(tensor.rows(), tensor.cols());
  for (int64_t i = 0; i < tensor.rows(); ++i) {
    DecodeRow(tensor, i, absl::MakeSpan(matrix.row(i).data(), static_cast<size_t>(tensor.cols())));
  }
  return matrix;
}

}  // namespace

// The matrix that attention's output goes through on its way to the stream.
struct KvCollector::Projection {
  RowMatrixF matrix;                     // [hidden, heads * head_dim]
  bool normed = false;                   // what leaves it is divided by its own root mean square
  std::vector<std::vector<float>> gram;  // [heads]: [head_dim, head_dim], a norm's gain included
};

KvCollector::KvCollector(const ModelFile& file, const KvCollectorOptions& options, WorkerPool& pool)
    : file_(file),
      options_(options),
      pool_(pool),
      statistics_(EmptyStatistics(static_cast<int>(file.config.num_layers), static_cast<int>(file.config.num_kv_heads),
                                  static_cast<int>(file.config.head_dim))) {
  const kv::CodecModel model = CodecModelOf(file.config);
  for (const kv::Rope& rope : model.ropes) frames_.emplace_back(rope, kv::PagesFor(options.context));
  frame_of_layer_ = model.rope_of_layer;
  const int64_t heads = 2 * file.config.num_layers * file.config.num_kv_heads;
  const int64_t vector_bytes = file.config.head_dim * static_cast<int64_t>(sizeof(uint16_t));
  const int64_t samples = std::min(kMostSamples, options.sample_bytes / (heads * vector_bytes));
  keep_ = std::max(kLeastSamples, samples / options.sequences);
}

KvCollector::Projection KvCollector::LoadProjection(int layer) const {
  Projection projection;
  projection.matrix = Decode(*file_.weights->Find(absl::StrCat("blk.", layer, ".attn_output.weight")));
  const Tensor* norm = file_.weights->Find(absl::StrCat("blk.", layer, ".post_attention_norm.weight"));
  projection.normed = norm != nullptr;
  RowMatrixF gained = projection.matrix;
  if (projection.normed) gained = Decode(*norm).row(0).asDiagonal() * projection.matrix;
  const int64_t dim = file_.config.head_dim;
  for (int64_t head = 0; head < file_.config.num_heads; ++head) {
    const auto slice = gained.middleCols(head * dim, dim);
    const RowMatrixF gram = slice.transpose() * slice;
    projection.gram.emplace_back(gram.data(), gram.data() + gram.size());
  }
  return projection;
}

// What part of the stream's energy one unit of attention's output, through the projection, is.
std::vector<float> KvCollector::Shares(const ObservedAttention& attention, const Projection& projection) const {
  const int64_t rows = attention.residual.rows;
  std::vector<float> shares = Energies(attention.residual.data, rows, attention.residual.cols);
  for (float& share : shares) share = 1.0f / std::max(share, 1e-20f);
  if (!projection.normed) return shares;
  const RowMatrixF branch = Eigen::Map<const RowMatrixF>(attention.attended.data, rows, attention.attended.cols) *
                            projection.matrix.transpose();
  const Eigen::VectorXf mean_squares = branch.rowwise().squaredNorm() / static_cast<float>(branch.cols());
  for (int64_t i = 0; i < rows; ++i) shares[static_cast<size_t>(i)] /= std::max(mean_squares[i], 1e-20f);
  return shares;
}

uint64_t KvCollector::SeedOf(int layer, int part) const {
  SeededRandom random(options_.seed + static_cast<uint64_t>(calls_));
  const uint64_t step = random.Next();
  return SeededRandom(step + static_cast<uint64_t>(layer) * 65536 + static_cast<uint64_t>(part)).Next();
}

void KvCollector::OnAttention(const ObservedAttention& attention) {
  NIBBLE_CHECK(attention.batch.size() == 1 && attention.batch[0].position == 0);
  const int heads = attention.shape.num_heads, kv_heads = attention.shape.num_kv_heads;
  const int dim = attention.shape.head_dim, group = heads / kv_heads;
  const Projection projection = LoadProjection(attention.layer);
  const std::vector<float> shares = Shares(attention, projection);
  std::vector<KvBlocks> blocks;
  for (int h = 0; h < kv_heads; ++h) {
    blocks.emplace_back(KvHeadTrace{attention.qkv.rows, dim, HeadOf(attention.qkv, (heads + h) * dim),
                                    HeadOf(attention.qkv, (heads + kv_heads + h) * dim)});
  }
  std::vector<QueryHeadSensitivity> sensitivities(static_cast<size_t>(heads));
  const SpanFrame& frame = frames_[static_cast<size_t>(frame_of_layer_[static_cast<size_t>(attention.layer)])];
  pool_.ParallelFor(heads, [&](int64_t h, int) {
    const QueryHeadTrace trace = {HeadOf(attention.qkv, h * dim),
                                  HeadOf(attention.attended, h * dim),
                                  projection.gram[static_cast<size_t>(h)],
                                  shares,
                                  attention.scale,
                                  attention.softcap,
                                  attention.window};
    sensitivities[static_cast<size_t>(h)] =
        MeasureQueryHead(blocks[static_cast<size_t>(h / group)], trace, frame, options_.rule, options_.query_stride,
                         SeedOf(attention.layer, static_cast<int>(h)), options_.isa);
  });
  pool_.ParallelFor(kv_heads, [&](int64_t h, int) {
    AddHead(attention, blocks[static_cast<size_t>(h)], projection,
            absl::MakeConstSpan(sensitivities).subspan(static_cast<size_t>(h * group), static_cast<size_t>(group)),
            static_cast<int>(h));
  });
  ++calls_;
}

void KvCollector::AddHead(const ObservedAttention& attention, const KvBlocks& blocks, const Projection& projection,
                          absl::Span<const QueryHeadSensitivity> group, int kv_head) {
  const int dim = attention.shape.head_dim;
  const int64_t tokens = blocks.trace().tokens;
  const auto layer = static_cast<size_t>(attention.layer);
  VectorStatistics& keys = statistics_.layers[layer].keys[static_cast<size_t>(kv_head)];
  VectorStatistics& values = statistics_.layers[layer].values[static_cast<size_t>(kv_head)];
  // Where nothing was read, every token counts a little.
  std::vector<float> key_weights(static_cast<size_t>(tokens), kLeastWeight), value_weights(key_weights);
  keys.AddMetric(Identity(dim), kLeastWeight);
  values.AddMetric(Identity(dim), kLeastWeight);
  for (size_t q = 0; q < group.size(); ++q) {
    const std::vector<float>& gram = projection.gram[static_cast<size_t>(kv_head) * group.size() + q];
    const Eigen::Map<const RowMatrixF> matrix(gram.data(), dim, dim);
    const float mean_diagonal = matrix.trace() / static_cast<float>(dim);
    double weight = 0.0;
    for (size_t t = 0; t < key_weights.size(); ++t) {
      key_weights[t] += group[q].key_weights[t];
      value_weights[t] += group[q].value_weights[t] * mean_diagonal;
      weight += static_cast<double>(group[q].value_weights[t]);
    }
    keys.AddMetric(group[q].key_metric, 1.0);
    values.AddMetric(std::vector<double>(gram.begin(), gram.end()), weight);
  }
  RowMatrixF vectors(tokens, dim);
  const SpanFrame& frame = frames_[static_cast<size_t>(frame_of_layer_[layer])];
  for (int64_t t = 0; t < tokens; ++t) {
    std::copy_n(blocks.trace().keys.row(t), dim, vectors.row(t).data());
    frame.TurnBack(t / kv::kPageTokens, vectors.row(t).data());
  }
  const absl::Span<const float> rows(vectors.data(), static_cast<size_t>(vectors.size()));
  keys.Add(rows, key_weights, keep_, SeedOf(attention.layer, 1024 + 2 * kv_head));
  for (int64_t t = 0; t < tokens; ++t) std::copy_n(blocks.trace().values.row(t), dim, vectors.row(t).data());
  values.Add(rows, value_weights, keep_, SeedOf(attention.layer, 1025 + 2 * kv_head));
}

}  // namespace nibble::engine
