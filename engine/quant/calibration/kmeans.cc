#include "engine/quant/calibration/kmeans.h"

#include <algorithm>
#include <limits>

#include "engine/quant/calibration/kmeans_kernels.h"
#include "engine/quant/calibration/seeded_random.h"
#include "kvcache/base/check.h"
#include "kvcache/codecs/calibration.h"

namespace nibble::engine {
namespace {

std::vector<float> HalfEnergies(absl::Span<const float> centroids, int dims) {
  std::vector<float> energies(centroids.size() / static_cast<size_t>(dims));
  for (size_t c = 0; c < energies.size(); ++c) {
    for (size_t d = 0; d < static_cast<size_t>(dims); ++d) {
      const float value = centroids[c * static_cast<size_t>(dims) + d];
      energies[c] += 0.5f * value * value;
    }
  }
  return energies;
}

class Lloyd {
 public:
  Lloyd(const KmeansSamples& samples, const KmeansOptions& options)
      : samples_(samples),
        options_(options),
        random_(options.seed),
        kernel_(NearestKernelFor(options.isa, samples.dims)),
        energies_(static_cast<size_t>(samples.count)),
        nearest_(static_cast<size_t>(samples.stride)),
        scores_(static_cast<size_t>(samples.stride)) {
    for (int d = 0; d < samples.dims; ++d) {
      for (int64_t i = 0; i < samples.count; ++i) energies_[i] += 0.5f * Value(d, i) * Value(d, i);
    }
  }

  std::vector<float> Run() {
    Seed();
    for (int i = 0; i < options_.iterations; ++i) {
      Assign(centroids_);
      if (!Update()) break;
    }
    return std::move(centroids_);
  }

 private:
  float Value(int d, int64_t sample) const {
    return samples_.values[static_cast<size_t>(d * samples_.stride + sample)];
  }

  void Assign(absl::Span<const float> centroids) {
    std::vector<float> mirrored;
    if (options_.mirrored) {
      mirrored = Mirrored(centroids, samples_.dims);
      centroids = mirrored;
    }
    const std::vector<float> half = HalfEnergies(centroids, samples_.dims);
    kernel_({samples_.values.data(), samples_.stride, samples_.count, centroids.data(), half.data(),
             static_cast<int>(half.size()), nearest_.data(), scores_.data()});
  }

  // What the sample loses where it is, halved.
  double Loss(int64_t i) const {
    return samples_.weights[i] * std::max(0.0, static_cast<double>(energies_[i]) - static_cast<double>(scores_[i]));
  }

  void AppendSample(int64_t sample) {
    for (int d = 0; d < samples_.dims; ++d) centroids_.push_back(Value(d, sample));
  }

  // A sample drawn by `mass`.
  int64_t Draw(absl::Span<const double> mass) {
    double total = 0.0;
    for (const double m : mass) total += m;
    double left = random_.Uniform() * total;
    for (size_t i = 0; i < mass.size(); ++i) {
      left -= mass[i];
      if (left < 0 && mass[i] > 0) return static_cast<int64_t>(i);
    }
    return static_cast<int64_t>(random_.Next() % mass.size());
  }

  void Seed() {
    std::vector<double> mass(samples_.weights.begin(), samples_.weights.end());
    AppendSample(Draw(mass));
    std::fill(mass.begin(), mass.end(), std::numeric_limits<double>::infinity());
    while (static_cast<int>(centroids_.size()) < options_.centroids * samples_.dims) {
      Assign(absl::MakeConstSpan(centroids_).last(static_cast<size_t>(samples_.dims)));
      for (int64_t i = 0; i < samples_.count; ++i) mass[i] = std::min(mass[i], Loss(i));
      AppendSample(Draw(mass));
    }
  }

  // Moves every centroid to the mean of its samples. False if none moved.
  bool Update() {
    const auto dims = static_cast<size_t>(samples_.dims);
    std::vector<double> sums(centroids_.size()), weights(static_cast<size_t>(options_.centroids));
    for (int64_t i = 0; i < samples_.count; ++i) {
      const auto c = static_cast<size_t>(nearest_[i] % options_.centroids);
      const int signs = nearest_[i] / options_.centroids << 6;  // in the order of Mirrored, which is that of codes
      weights[c] += samples_.weights[i];
      for (size_t d = 0; d < dims; ++d) {
        const auto dim = static_cast<int>(d);
        const float value = kv::IsTurned(signs, dim) ? -Value(dim, i) : Value(dim, i);
        sums[c * dims + d] += static_cast<double>(samples_.weights[i]) * value;
      }
    }
    bool moved = false;
    for (size_t c = 0; c < weights.size(); ++c) {
      if (!(weights[c] > 0)) {
        moved |= Reseed(c);
        continue;
      }
      for (size_t d = 0; d < dims; ++d) {
        const auto mean = static_cast<float>(sums[c * dims + d] / weights[c]);
        moved |= mean != centroids_[c * dims + d];
        centroids_[c * dims + d] = mean;
      }
    }
    return moved;
  }

  // Puts an empty cluster on the sample that loses most, which then loses nothing. False if none loses anything.
  bool Reseed(size_t cluster) {
    int64_t worst = 0;
    for (int64_t i = 1; i < samples_.count; ++i) {
      if (Loss(i) > Loss(worst)) worst = i;
    }
    if (!(Loss(worst) > 0)) return false;
    scores_[worst] = energies_[worst];
    for (int d = 0; d < samples_.dims; ++d) {
      centroids_[cluster * static_cast<size_t>(samples_.dims) + static_cast<size_t>(d)] = Value(d, worst);
    }
    return true;
  }

  const KmeansSamples& samples_;
  const KmeansOptions& options_;
  SeededRandom random_;
  const NearestKernel kernel_;
  std::vector<float> energies_;  // [count]: |x|^2 / 2
  std::vector<int32_t> nearest_;
  std::vector<float> scores_;
  std::vector<float> centroids_;
};

}  // namespace

KmeansSamples::KmeansSamples(int num_dims, int64_t num_samples)
    : dims(num_dims),
      count(num_samples),
      stride((num_samples + 15) / 16 * 16),
      values(static_cast<size_t>(num_dims * stride)),
      weights(static_cast<size_t>(num_samples)) {
  NIBBLE_CHECK(num_dims >= 1 && num_dims <= kMaxGroupCoefficients && num_samples >= 1);
}

std::vector<float> Kmeans(const KmeansSamples& samples, const KmeansOptions& options) {
  return Lloyd(samples, options).Run();
}

std::vector<float> Mirrored(absl::Span<const float> centroids, int dims) {
  const int64_t count = static_cast<int64_t>(centroids.size()) / dims;
  std::vector<float> all;
  all.reserve(4 * centroids.size());
  for (const int signs : {0x00, 0x40, 0x80, 0xC0}) {
    for (int64_t i = 0; i < count * dims; ++i) {
      const float value = centroids[static_cast<size_t>(i)];
      all.push_back(kv::IsTurned(signs, static_cast<int>(i % dims)) ? -value : value);
    }
  }
  return all;
}

std::vector<int32_t> NearestCentroids(const KmeansSamples& samples, absl::Span<const float> centroids, simd::Isa isa) {
  const std::vector<float> half = HalfEnergies(centroids, samples.dims);
  std::vector<int32_t> nearest(static_cast<size_t>(samples.stride));
  std::vector<float> scores(nearest.size());
  NearestKernelFor(isa, samples.dims)({samples.values.data(), samples.stride, samples.count, centroids.data(),
                                       half.data(), static_cast<int>(half.size()), nearest.data(), scores.data()});
  return nearest;
}

}  // namespace nibble::engine
