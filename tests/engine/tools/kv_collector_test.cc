// What is collected from a forward pass, against the parts it is made of: which head's numbers go where.
#include "engine/tools/kv_collector.h"

#include <cmath>
#include <memory>

#include "engine/backends/cpu/worker_pool.h"
#include "engine/models/kv_codec_model.h"
#include "engine/tools/flags.h"
#include "engine/tools/solo_sequence.h"
#include "gmock/gmock.h"
#include "tests/base/status_matchers.h"
#include "tests/engine/tools/tiny_model.h"

namespace nibble::engine {
namespace {

constexpr int64_t kTokens = 32 * 5 + 9;
using Doubles = std::vector<double>;
using Floats = std::vector<float>;

Floats Copy(View view) { return {view.data, view.data + view.rows * view.cols}; }

// Keeps what one layer showed, and shows all of it to a collector.
class Recorder : public AttentionObserver {
 public:
  Recorder(KvCollector& collector, int layer) : collector_(collector), layer_(layer) {}
  void OnAttention(const ObservedAttention& attention) override {
    collector_.OnAttention(attention);
    if (attention.layer != layer_) return;
    seen = attention;
    residual = Copy(attention.residual);
    qkv = Copy(attention.qkv);
    attended = Copy(attention.attended);
  }

  ObservedAttention seen;
  Floats residual, qkv, attended;

 private:
  KvCollector& collector_;
  const int layer_;
};

Doubles Decoded(const ModelFile& file, const std::string& name) {
  const Tensor& tensor = *file.weights->Find(name);
  Doubles values;
  Floats row(static_cast<size_t>(tensor.cols()));
  for (int64_t i = 0; i < tensor.rows(); ++i) {
    DecodeRow(tensor, i, absl::MakeSpan(row));
    values.insert(values.end(), row.begin(), row.end());
  }
  return values;
}

class Collected : public testing::TestWithParam<const char*> {
 protected:
  Collected() : model_(OpenTinyModel(GetParam())), file_(model_.file), config_(file_.config) {
    layer_ = static_cast<int>(config_.num_layers) - 2;  // of gemma3 the global one
    KvCollectorOptions options;
    options.query_stride = 1;
    options.context = kTokens;
    options.isa = simd::SupportedIsas().back();
    pool_ = *WorkerPool::Create(2);
    collector_ = std::make_unique<KvCollector>(file_, options, *pool_);
    recorder_ = std::make_unique<Recorder>(*collector_, layer_);
    EngineOptions engine_options = *OptionsFor(ReferenceMode());
    engine_options.observer = recorder_.get();
    engine_options.step_tokens = kTokens;
    const auto engine = *EngineWithPages(engine_options, model_, kv::PagesFor(kTokens));
    SoloSequence(*engine, kTokens).Append(SomeIds(kTokens), nullptr);
    dim_ = static_cast<size_t>(config_.head_dim);
    heads_ = static_cast<size_t>(config_.num_heads);
    kv_heads_ = static_cast<size_t>(config_.num_kv_heads);
  }

  std::string Name(const char* part) const { return "blk." + std::to_string(layer_) + "." + part; }

  // [hidden, heads * dim], the gain of a norm behind it included.
  Doubles Projection() const {
    Doubles matrix = Decoded(file_, Name("attn_output.weight"));
    if (file_.weights->Find(Name("post_attention_norm.weight")) == nullptr) return matrix;
    const Doubles gain = Decoded(file_, Name("post_attention_norm.weight"));
    for (size_t i = 0; i < matrix.size(); ++i) matrix[i] *= gain[i / (heads_ * dim_)];
    return matrix;
  }
  Floats Gram(size_t head) const {
    const Doubles matrix = Projection();
    const size_t cols = heads_ * dim_;
    Floats gram;
    for (size_t a = 0; a < dim_; ++a) {
      for (size_t b = 0; b < dim_; ++b) {
        double sum = 0.0;
        for (size_t r = 0; r < matrix.size() / cols; ++r) {
          sum += matrix[r * cols + head * dim_ + a] * matrix[r * cols + head * dim_ + b];
        }
        gram.push_back(static_cast<float>(sum));
      }
    }
    return gram;
  }
  Floats Shares() const {
    const size_t hidden = recorder_->residual.size() / kTokens, cols = heads_ * dim_;
    const bool normed = file_.weights->Find(Name("post_attention_norm.weight")) != nullptr;
    const Doubles matrix = Decoded(file_, Name("attn_output.weight"));
    Floats shares;
    for (size_t t = 0; t < kTokens; ++t) {
      double energy = 0.0, mean_square = 0.0;
      for (size_t r = 0; r < hidden; ++r) {
        energy += std::pow(recorder_->residual[t * hidden + r], 2);
        double branch = 0.0;
        for (size_t c = 0; c < cols; ++c) branch += matrix[r * cols + c] * recorder_->attended[t * cols + c];
        mean_square += branch * branch / static_cast<double>(hidden);
      }
      shares.push_back(static_cast<float>(1 / energy / (normed ? mean_square : 1.0)));
    }
    return shares;
  }

  QueryHeadSensitivity Measure(size_t head, const Floats& gram, const Floats& shares) const {
    const auto cols = static_cast<int64_t>((heads_ + 2 * kv_heads_) * dim_);
    const size_t kv_head = head / (heads_ / kv_heads_);
    const float* rows = recorder_->qkv.data();
    const KvBlocks blocks({kTokens,
                           static_cast<int>(dim_),
                           {rows + (heads_ + kv_head) * dim_, cols},
                           {rows + (heads_ + kv_heads_ + kv_head) * dim_, cols}});
    QueryHeadTrace trace;
    trace.queries = {rows + head * dim_, cols};
    trace.outputs = {recorder_->attended.data() + head * dim_, static_cast<int64_t>(heads_ * dim_)};
    trace.gram = gram;
    trace.shares = shares;
    trace.scale = recorder_->seen.scale;
    trace.softcap = recorder_->seen.softcap;
    trace.window = recorder_->seen.window;
    return MeasureQueryHead(blocks, trace, Frame(), SealedRule(), 1, 7, simd::SupportedIsas().back());
  }
  SpanFrame Frame() const {
    const kv::CodecModel codec_model = CodecModelOf(config_);
    return {codec_model.ropes[static_cast<size_t>(codec_model.rope_of_layer[static_cast<size_t>(layer_)])],
            kv::PagesFor(kTokens)};
  }

  const OpenedModel model_;
  const ModelFile& file_;
  const ModelConfig& config_;
  int layer_;
  size_t dim_, heads_, kv_heads_;
  std::unique_ptr<WorkerPool> pool_;
  std::unique_ptr<KvCollector> collector_;
  std::unique_ptr<Recorder> recorder_;
};

void ExpectClose(const Doubles& got, const Doubles& want, const char* what) {
  ASSERT_EQ(got.size(), want.size());
  double largest = 0.0;
  for (const double x : want) largest = std::max(largest, std::fabs(x));
  EXPECT_GT(largest, 0.0) << what;
  for (size_t i = 0; i < got.size(); ++i) EXPECT_NEAR(got[i], want[i], 1e-3 * largest) << what << ", number " << i;
}

TEST_P(Collected, IsTheSumOfItsQueryHeads) {
  const KvStatistics& statistics = collector_->statistics();
  ASSERT_EQ(statistics.layers.size(), static_cast<size_t>(config_.num_layers));
  const Floats shares = Shares();
  const SpanFrame frame = Frame();
  const size_t cols = (heads_ + 2 * kv_heads_) * dim_;
  for (size_t kv_head = 0; kv_head < kv_heads_; ++kv_head) {
    Doubles key_weights(kTokens), value_weights(kTokens), value_metric(dim_ * dim_);
    for (size_t head = kv_head * (heads_ / kv_heads_); head < (kv_head + 1) * (heads_ / kv_heads_); ++head) {
      const Floats gram = Gram(head);
      const QueryHeadSensitivity sensitivity = Measure(head, gram, shares);
      double mean_diagonal = 0.0;
      for (size_t d = 0; d < dim_; ++d) mean_diagonal += gram[d * dim_ + d] / static_cast<double>(dim_);
      for (size_t t = 0; t < kTokens; ++t) {
        key_weights[t] += sensitivity.key_weights[t];
        value_weights[t] += sensitivity.value_weights[t] * mean_diagonal;
        for (size_t i = 0; i < gram.size(); ++i) value_metric[i] += double{sensitivity.value_weights[t]} * gram[i];
      }
    }
    Doubles key_sum(dim_), value_sum(dim_);
    double key_weight = 0.0, value_weight = 0.0;
    for (size_t t = 0; t < kTokens; ++t) {
      const float* row = recorder_->qkv.data() + t * cols;
      Floats key(row + (heads_ + kv_head) * dim_, row + (heads_ + kv_head + 1) * dim_);
      frame.TurnBack(static_cast<int64_t>(t) / 32, key.data());
      for (size_t d = 0; d < dim_; ++d) {
        key_sum[d] += key_weights[t] * key[d];
        value_sum[d] += value_weights[t] * row[(heads_ + kv_heads_ + kv_head) * dim_ + d];
      }
      key_weight += key_weights[t];
      value_weight += value_weights[t];
    }
    const KvStatistics::Layer& layer = statistics.layers[static_cast<size_t>(layer_)];
    const VectorStatistics &keys = layer.keys[kv_head], &values = layer.values[kv_head];
    EXPECT_NEAR(keys.weight, key_weight, 1e-3 * key_weight);
    EXPECT_NEAR(values.weight, value_weight, 1e-3 * value_weight);
    ExpectClose(keys.sum, key_sum, "sum of keys");
    ExpectClose(values.sum, value_sum, "sum of values");
    ExpectClose(values.metric, value_metric, "metric of values");
    double trace = 0.0;
    for (size_t d = 0; d < dim_; ++d) trace += keys.metric[d * dim_ + d] / static_cast<double>(dim_);
    EXPECT_NEAR(trace, key_weight, 1e-3 * key_weight);
    EXPECT_GE(keys.num_samples(), 16);
    EXPECT_GE(values.num_samples(), 16);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Collected,
                         testing::Values("tiny-llama-f32", "tiny-mistral-f16", "tiny-qwen3-f16", "tiny-gemma3-q8_0"));

}  // namespace
}  // namespace nibble::engine
