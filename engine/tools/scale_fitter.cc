#include "engine/tools/scale_fitter.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/adapters/compress.h"
#include "engine/quant/calibration/eigen.h"
#include "engine/tools/flags.h"
#include "engine/tools/solo_sequence.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine {
namespace {

using RowMatrixF = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

// Outputs that are multiplied together: enough to reuse the inputs, few enough for a cache.
constexpr int64_t kBlockRows = 32;

// Of one output: <X d, X s> and ||X s||^2.
struct Products {
  double cross = 0.0, square = 0.0;
};

// Of the outputs [first, first + products.size()).
void Multiply(const Tensor& base, const Tensor& tuned, const Eigen::Map<const RowMatrixF>& x, int64_t plane,
              const SignDelta& delta, int64_t first, absl::Span<Products> products) {
  const auto count = static_cast<int64_t>(products.size());
  const auto cols = static_cast<size_t>(base.cols());
  RowMatrixF targets(count, base.cols()), signs = RowMatrixF::Zero(count, base.cols());
  for (int64_t i = 0; i < count; ++i) {
    PlaneTarget(base, tuned, plane, delta, first + i, absl::MakeSpan(targets.row(i).data(), cols));
    delta.AddSigns(plane, first + i, 1.0f, absl::MakeSpan(signs.row(i).data(), cols));
  }
  const RowMatrixF of_targets = targets * x.transpose(), of_signs = signs * x.transpose();  // [count, rows of x]
  for (int64_t i = 0; i < count; ++i) {
    products[static_cast<size_t>(i)] = {of_targets.row(i).cast<double>().dot(of_signs.row(i).cast<double>()),
                                        of_signs.row(i).cast<double>().squaredNorm()};
  }
}

void SetScale(const Products& products, float* scale) {
  if (products.square > 0.0) *scale = static_cast<float>(products.cross / products.square);
}

bool AreScales(absl::Span<const float> scales) {
  return std::all_of(scales.begin(), scales.end(), [](float scale) { return std::fabs(scale) <= kMaxDeltaScale; });
}

}  // namespace

ScaleFitter::ScaleFitter(const WeightSource& base, const WeightSource& tuned, DeltaFile* delta, WorkerPool& pool,
                         std::function<void(int64_t done, int64_t all)> progress)
    : base_(base), tuned_(tuned), delta_(delta), pool_(pool), progress_(std::move(progress)) {}

bool ScaleFitter::OnProduct(const ObservedProduct& observed) {
  bool changed = false;
  for (const Tensor* part : observed.parts) {
    const auto found = delta_->signs.find(part->name);
    if (found == delta_->signs.end() || !status_.ok()) continue;
    progress_(done_++, static_cast<int64_t>(delta_->signs.size()));
    Fit(*base_.Find(part->name), *tuned_.Find(part->name), observed.input, &found->second);
    changed = true;
  }
  return changed;
}

// The second plane is of what the first leaves with its fitted scales.
void ScaleFitter::Fit(const Tensor& base, const Tensor& tuned, View x, SignDelta* delta) {
  for (int64_t plane = 0; plane < delta->planes(); ++plane) {
    if (plane > 0) status_.Update(FillPlane(base, tuned, plane, delta));
    FitPlane(base, tuned, x, plane, delta);
  }
  if (AreScales(delta->scales())) return;
  status_.Update(absl::FailedPreconditionError(absl::StrCat("tensor ", base.name, ": a fitted scale is not finite")));
}

void ScaleFitter::FitPlane(const Tensor& base, const Tensor& tuned, View x, int64_t plane, SignDelta* delta) {
  const Eigen::Map<const RowMatrixF> inputs(x.data, x.rows, x.cols);
  std::vector<Products> products(static_cast<size_t>(base.rows()));
  pool_.ParallelFor((base.rows() + kBlockRows - 1) / kBlockRows, [&](int64_t block, int) {
    const int64_t first = block * kBlockRows, count = std::min(kBlockRows, base.rows() - first);
    Multiply(base, tuned, inputs, plane, *delta, first,
             absl::MakeSpan(products).subspan(static_cast<size_t>(first), static_cast<size_t>(count)));
  });
  float* const scales = delta->mutable_scales().data() + plane * delta->scale_rows();
  Products all;
  for (size_t row = 0; row < products.size(); ++row) {
    if (delta->scale_rows() > 1) SetScale(products[row], scales + row);
    all.cross += products[row].cross;
    all.square += products[row].square;
  }
  if (delta->scale_rows() == 1) SetScale(all, scales);
}

absl::Status FitScales(const OpenedModel& base, const WeightSource& tuned, absl::Span<const int32_t> ids,
                       const ChunkOptions& options, const std::function<void(int64_t done, int64_t all)>& progress,
                       DeltaFile* delta) {
  NIBBLE_ASSIGN_OR_RETURN(const auto chunks, CutChunks(ids, base.tokenizer->data(), options));
  NIBBLE_ASSIGN_OR_RETURN(EngineOptions engine_options, OptionsFor(ReferenceMode()));
  NIBBLE_ASSIGN_OR_RETURN(const std::unique_ptr<WorkerPool> pool, WorkerPool::Create(engine_options.threads));
  ScaleFitter fitter(*base.file.weights, tuned, delta, *pool, progress);
  const auto count = static_cast<int64_t>(chunks.size());
  engine_options.step_tokens = count * options.context;
  engine_options.max_sequences = count;
  engine_options.product_observer = &fitter;
  OpenedModel with_delta;
  with_delta.file = {base.file.config, base.file.tokenizer, MergedWeights(*base.file.weights, *delta)};
  const int64_t pages = kv::PagesFor(options.context);
  NIBBLE_ASSIGN_OR_RETURN(const std::unique_ptr<CpuEngine> engine,
                          EngineWithPages(engine_options, with_delta, count * pages));
  std::vector<SoloSequence> sequences;
  StepPlan plan;
  for (int64_t i = 0; i < count; ++i) {
    sequences.emplace_back(*engine, options.context, static_cast<kv::PageId>(i * pages));
  }
  for (size_t i = 0; i < chunks.size(); ++i) plan.sequences.push_back(sequences[i].StepFor(chunks[i], nullptr));
  engine->Launch(plan);
  engine->Await();
  return fitter.status();
}

}  // namespace nibble::engine
