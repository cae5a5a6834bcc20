#include "engine/quant/calibration/klt.h"

#include <algorithm>

#include "engine/quant/calibration/eigen.h"
#include "kvcache/base/check.h"

namespace nibble::engine {
namespace {

using RowMatrix = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

std::vector<double> Values(const RowMatrix& matrix) { return {matrix.data(), matrix.data() + matrix.size()}; }

}  // namespace

std::vector<double> UnitMetric(const VectorStatistics& statistics, double shrinkage) {
  const int dim = statistics.dim;
  RowMatrix metric = Eigen::Map<const RowMatrix>(statistics.metric.data(), dim, dim);
  metric = (metric + metric.transpose()).eval() * 0.5;
  NIBBLE_CHECK(metric.trace() > 0);
  metric *= (1.0 - shrinkage) * dim / metric.trace();
  metric.diagonal().array() += shrinkage;
  return Values(metric);
}

Klt MakeKlt(const VectorStatistics& statistics, double shrinkage) {
  NIBBLE_CHECK(statistics.weight > 0);
  const int dim = statistics.dim;
  const Eigen::VectorXd mean = Eigen::Map<const Eigen::VectorXd>(statistics.sum.data(), dim) / statistics.weight;
  const RowMatrix moment = Eigen::Map<const RowMatrix>(statistics.moment.data(), dim, dim) / statistics.weight;
  const RowMatrix covariance = moment - mean * mean.transpose();
  const std::vector<double> unit = UnitMetric(statistics, shrinkage);
  const Eigen::SelfAdjointEigenSolver<RowMatrix> metric(Eigen::Map<const RowMatrix>(unit.data(), dim, dim));
  const RowMatrix root = metric.operatorSqrt(), inverse_root = metric.operatorInverseSqrt();
  const RowMatrix seen = root * covariance * root;
  const Eigen::SelfAdjointEigenSolver<RowMatrix> solver((seen + seen.transpose()) * 0.5);
  // Eigen's are rising.
  const RowMatrix basis = solver.eigenvectors().rowwise().reverse();
  Klt klt;
  klt.dim = dim;
  klt.mean = {mean.data(), mean.data() + dim};
  for (int i = dim - 1; i >= 0; --i) klt.variances.push_back(std::max(0.0, solver.eigenvalues()[i]));
  klt.analysis = Values(basis.transpose() * root);
  klt.synthesis = Values(inverse_root * basis);
  return klt;
}

}  // namespace nibble::engine
