#include "engine/quant/calibration/codec_design.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "engine/quant/calibration/eigen.h"
#include "engine/quant/calibration/klt.h"
#include "engine/quant/calibration/kmeans.h"
#include "engine/quant/calibration/rate_allocation.h"
#include "engine/quant/calibration/seeded_random.h"
#include "kvcache/simd/half.h"

namespace nibble::engine {
namespace {

using RowMatrixF = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using RowMatrixD = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

constexpr CodecDesign kDesigns[] = {
    {"cq1", 1.0, 8}, {"cq2", 2.0, 4}, {"klt1", 1.0, 0}, {"klt2", 2.0, 0}, {"klt3", 3.0, 0},
};

// Every eighth sample is kept back from the codebooks, to measure them.
constexpr int64_t kMeasureEvery = 8;

uint16_t Half(double value) { return simd::FloatToHalf(static_cast<float>(value)); }

RowMatrixF FromHalf(absl::Span<const uint16_t> halves, int64_t rows, int64_t cols) {
  RowMatrixF matrix(rows, cols);
  std::transform(halves.begin(), halves.end(), matrix.data(), simd::HalfToFloat);
  return matrix;
}

// The keys or the values of one head, and what is made of them.
struct HeadWork {
  const VectorStatistics* statistics = nullptr;
  kv::HeadCode* code = nullptr;
  Klt klt;
  double loss = 0.0, variance = 0.0;  // of all its tokens
};

std::vector<int32_t> GroupEnds(absl::Span<const std::vector<int>> groups) {
  std::vector<int32_t> ends;
  for (const std::vector<int>& group : groups) {
    ends.push_back((ends.empty() ? 0 : ends.back()) + static_cast<int32_t>(group.size()));
  }
  return ends;
}

void SetKltTransforms(const Klt& klt, absl::Span<const std::vector<int>> groups, kv::HeadCode& code) {
  std::vector<int> order;
  for (const std::vector<int>& group : groups) order.insert(order.end(), group.begin(), group.end());
  code.group_ends = GroupEnds(groups);
  for (const double mean : klt.mean) code.mean.push_back(static_cast<float>(mean));
  for (const int c : order) {
    for (int d = 0; d < klt.dim; ++d) code.analysis.push_back(Half(klt.analysis[static_cast<size_t>(c * klt.dim + d)]));
  }
  for (int d = 0; d < klt.dim; ++d) {
    for (const int c : order) code.synthesis.push_back(Half(klt.synthesis[static_cast<size_t>(d * klt.dim + c)]));
  }
}

void SetIdentity(int dim, int coupled_channels, kv::HeadCode& code) {
  code.mean.assign(static_cast<size_t>(dim), 0.0f);
  code.analysis.assign(static_cast<size_t>(dim) * static_cast<size_t>(dim), Half(0.0));
  for (int d = 0; d < dim; ++d) code.analysis[static_cast<size_t>(d * dim + d)] = Half(1.0);
  code.synthesis = code.analysis;
  for (int end = coupled_channels; end <= dim; end += coupled_channels) code.group_ends.push_back(end);
}

bool IsMeasured(int64_t sample) { return sample % kMeasureEvery == kMeasureEvery - 1; }

// Makes the codebooks of one head and measures them.
class HeadDesigner {
 public:
  HeadDesigner(HeadWork& work, int entries, const DesignOptions& options, uint64_t seed)
      : work_(work),
        entries_(entries),
        code_(*work.code),
        options_(options),
        random_(seed),
        vectors_(FromHalf(work.statistics->samples, work.statistics->num_samples(), work.statistics->dim)),
        restored_(vectors_.rows(), 0) {
    const Eigen::Map<const Eigen::RowVectorXf> mean(code_.mean.data(), work.statistics->dim);
    const RowMatrixF analysis = FromHalf(code_.analysis, Coefficients(), work.statistics->dim);
    coefficients_ = (vectors_.rowwise() - mean) * analysis.transpose();
    restored_.resize(vectors_.rows(), Coefficients());
  }

  void Run() {
    code_.centroid_scale.resize(static_cast<size_t>(Coefficients()));
    code_.centroids.resize(static_cast<size_t>(Coefficients() * entries_));
    for (int g = 0, first = 0; g < code_.groups(); first = code_.group_ends[static_cast<size_t>(g++)]) {
      MakeCodebook(first, code_.group_ends[static_cast<size_t>(g)] - first);
    }
    Measure();
  }

 private:
  int Coefficients() const { return static_cast<int>(code_.analysis.size()) / work_.statistics->dim; }

  KmeansSamples GroupSamples(int first, int dims, bool measured_too) const {
    std::vector<int64_t> kept;
    for (int64_t i = 0; i < coefficients_.rows(); ++i) {
      if (measured_too || !IsMeasured(i)) kept.push_back(i);
    }
    KmeansSamples samples(dims, static_cast<int64_t>(kept.size()));
    for (size_t i = 0; i < kept.size(); ++i) {
      samples.weights[i] = work_.statistics->sample_weights[static_cast<size_t>(kept[i])];
      for (int d = 0; d < dims; ++d) {
        samples.values[static_cast<size_t>(d * samples.stride) + i] = coefficients_(kept[i], first + d);
      }
    }
    return samples;
  }

  void MakeCodebook(int first, int dims) {
    KmeansOptions kmeans;
    kmeans.centroids = entries_;
    kmeans.mirrored = entries_ == kv::kMirroredEntries;
    kmeans.iterations = options_.iterations;
    kmeans.seed = random_.Next();
    kmeans.isa = options_.isa;
    std::vector<float> centroids = Kmeans(GroupSamples(first, dims, false), kmeans);
    RoundCentroids(first, dims, centroids);
    if (kmeans.mirrored) centroids = Mirrored(centroids, dims);
    const std::vector<int32_t> nearest = NearestCentroids(GroupSamples(first, dims, true), centroids, options_.isa);
    for (int64_t i = 0; i < restored_.rows(); ++i) {
      for (int d = 0; d < dims; ++d) {
        restored_(i, first + d) = centroids[static_cast<size_t>(nearest[static_cast<size_t>(i)] * dims + d)];
      }
    }
  }

  // To int8 with a scale for each coefficient; `centroids` become what the codes stand for.
  void RoundCentroids(int first, int dims, std::vector<float>& centroids) {
    for (int d = 0; d < dims; ++d) {
      float largest = 0.0f;
      for (int c = 0; c < entries_; ++c) largest = std::max(largest, std::fabs(centroids[c * dims + d]));
      const float scale = largest > 0 ? largest / 127.0f : 1.0f;
      code_.centroid_scale[static_cast<size_t>(first + d)] = scale;
      for (int c = 0; c < entries_; ++c) {
        const float rounded = std::clamp(std::nearbyintf(centroids[c * dims + d] / scale), -127.0f, 127.0f);
        code_.centroids[static_cast<size_t>((first + d) * entries_ + c)] = static_cast<int8_t>(rounded);
        centroids[c * dims + d] = rounded * scale;
      }
    }
  }

  // Loss of the samples kept back, and what it would be if only the mean was kept.
  void Measure() {
    const VectorStatistics& statistics = *work_.statistics;
    const int dim = statistics.dim;
    const std::vector<double> unit = UnitMetric(statistics, 0.0);
    const RowMatrixF metric = Eigen::Map<const RowMatrixD>(unit.data(), dim, dim).cast<float>();
    const RowMatrixF synthesis = FromHalf(code_.synthesis, dim, Coefficients());
    const Eigen::RowVectorXf mean = Eigen::Map<const Eigen::RowVectorXd>(work_.klt.mean.data(), dim).cast<float>();
    const Eigen::Map<const Eigen::RowVectorXf> coded_mean(code_.mean.data(), dim);
    const RowMatrixF errors = ((restored_ * synthesis.transpose()).rowwise() + coded_mean) - vectors_;
    const RowMatrixF spread = vectors_.rowwise() - mean;
    const Eigen::VectorXf losses = (errors * metric).cwiseProduct(errors).rowwise().sum();
    const Eigen::VectorXf variances = (spread * metric).cwiseProduct(spread).rowwise().sum();
    double weight = 0.0, loss = 0.0, variance = 0.0;
    for (int64_t i = 0; i < vectors_.rows(); ++i) {
      const double w = statistics.sample_weights[static_cast<size_t>(i)];
      variance += w * static_cast<double>(variances[i]);
      loss += IsMeasured(i) ? w * static_cast<double>(losses[i]) : 0.0;
      weight += IsMeasured(i) ? w : 0.0;
    }
    work_.variance = variance;
    work_.loss = weight > 0 ? loss / weight * statistics.weight : 0.0;
  }

  HeadWork& work_;
  const int entries_;  // of a codebook
  kv::HeadCode& code_;
  const DesignOptions& options_;
  SeededRandom random_;
  const RowMatrixF vectors_;
  RowMatrixF coefficients_;  // [samples, coefficients]
  RowMatrixF restored_;      // the same, out of the codebooks
};

// Layer after layer, the keys of its heads, then the values.
std::vector<HeadWork> AllHeads(const KvStatistics& statistics, kv::Calibration& calibration) {
  std::vector<HeadWork> heads;
  for (size_t l = 0; l < statistics.layers.size(); ++l) {
    const KvStatistics::Layer& layer = statistics.layers[l];
    kv::LayerCode& code = calibration.layers[l];
    code.keys.resize(layer.keys.size());
    code.values.resize(layer.values.size());
    for (size_t h = 0; h < layer.keys.size(); ++h) heads.push_back({&layer.keys[h], &code.keys[h], {}, 0, 0});
    for (size_t h = 0; h < layer.values.size(); ++h) heads.push_back({&layer.values[h], &code.values[h], {}, 0, 0});
  }
  return heads;
}

void SetCalibratedBases(double bits, int head_dim, absl::Span<HeadWork> heads) {
  std::vector<std::vector<double>> variances;
  for (const HeadWork& head : heads) {
    variances.push_back(head.klt.variances);
    for (double& variance : variances.back()) variance *= head.statistics->weight;
  }
  const double total = bits * head_dim * static_cast<double>(heads.size()) / kBitsPerGroup;
  const std::vector<int> groups =
      AllocateGroups(variances, std::max(static_cast<int64_t>(total), static_cast<int64_t>(heads.size())));
  for (size_t h = 0; h < heads.size(); ++h) {
    const Rates rates = ReverseWaterFill(variances[h], kBitsPerGroup * groups[h]);
    SetKltTransforms(heads[h].klt, GroupCoefficients(rates.bits, groups[h]), *heads[h].code);
  }
}

void AddShare(const HeadWork& head, size_t num_heads, DesignShare& share) {
  share.bits += kBitsPerGroup * head.code->groups() / (head.statistics->dim * static_cast<double>(num_heads));
  share.loss += head.loss;
  share.variance += head.variance;
}

DesignReport ReportOf(absl::Span<const HeadWork> heads, size_t layers) {
  DesignReport report;
  report.keys.resize(layers);
  report.values.resize(layers);
  const size_t per_side = heads.size() / layers / 2;
  double loss = 0.0, variance = 0.0;
  for (size_t i = 0; i < heads.size(); ++i) {
    const bool key = i / per_side % 2 == 0;
    AddShare(heads[i], per_side, (key ? report.keys : report.values)[i / per_side / 2]);
    report.bits +=
        kBitsPerGroup * heads[i].code->groups() / heads[i].statistics->dim / static_cast<double>(heads.size());
    loss += heads[i].loss;
    variance += heads[i].variance;
  }
  report.distortion = variance > 0 ? loss / variance : 0.0;
  return report;
}

}  // namespace

absl::Span<const CodecDesign> CodecDesigns() { return kDesigns; }

const CodecDesign* FindCodecDesign(std::string_view name) {
  for (const CodecDesign& design : kDesigns) {
    if (design.name == name) return &design;
  }
  return nullptr;
}

DesignedCodec DesignCodec(const CodecDesign& design, const KvStatistics& statistics, const DesignOptions& options,
                          const ParallelFor& parallel_for) {
  DesignedCodec result;
  result.calibration.codec = std::string(design.name);
  result.calibration.entries = design.entries();
  result.calibration.layers.resize(statistics.layers.size());
  std::vector<HeadWork> heads = AllHeads(statistics, result.calibration);
  const auto count = static_cast<int64_t>(heads.size());
  parallel_for(count, [&](int64_t i) { heads[i].klt = MakeKlt(*heads[i].statistics, options.shrinkage); });
  if (design.coupled_channels > 0) {
    for (HeadWork& head : heads) SetIdentity(statistics.head_dim, design.coupled_channels, *head.code);
  } else {
    SetCalibratedBases(design.bits, statistics.head_dim, absl::MakeSpan(heads));
  }
  parallel_for(count, [&](int64_t i) {
    const uint64_t seed = SeededRandom(options.seed + static_cast<uint64_t>(i)).Next();
    HeadDesigner(heads[i], design.entries(), options, seed).Run();
  });
  result.report = ReportOf(heads, statistics.layers.size());
  return result;
}

}  // namespace nibble::engine
