// The Karhunen-Loeve transform under a metric: the basis in which squared error is the expected loss and coefficients
// are uncorrelated. U are eigenvectors of M^1/2 S M^1/2; analysis U^T M^1/2, synthesis M^-1/2 U.
#ifndef NIBBLE_ENGINE_QUANT_CALIBRATION_KLT_H_
#define NIBBLE_ENGINE_QUANT_CALIBRATION_KLT_H_

#include <vector>

#include "engine/quant/calibration/vector_statistics.h"

namespace nibble::engine {

struct Klt {
  int dim = 0;
  std::vector<double> mean;       // [dim]
  std::vector<double> variances;  // [dim], of the coefficients, falling; the metric's trace is `dim`
  std::vector<double> analysis;   // [dim, dim]: a coefficient a row
  std::vector<double> synthesis;  // [dim, dim]: a coefficient a column
};

// `shrinkage` of the metric goes to its mean diagonal. REQUIRES: statistics.weight > 0 and a metric with a positive
// trace; shrinkage > 0 where the metric is singular.
Klt MakeKlt(const VectorStatistics& statistics, double shrinkage);

// The metric shrunk and scaled to a trace of `dim`, [dim, dim].
std::vector<double> UnitMetric(const VectorStatistics& statistics, double shrinkage);

}  // namespace nibble::engine

#endif  // NIBBLE_ENGINE_QUANT_CALIBRATION_KLT_H_
