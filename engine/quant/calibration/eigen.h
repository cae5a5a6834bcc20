// Eigen, summing alike on every machine. Left alone it asks the processor for the sizes of its caches and cuts long
// sums into blocks that fit, so that a product's last bits differ from one processor to the next. Everything that uses
// Eigen includes it through this header.
#ifndef NIBBLE_ENGINE_QUANT_CALIBRATION_EIGEN_H_
#define NIBBLE_ENGINE_QUANT_CALIBRATION_EIGEN_H_

#define EIGEN_NO_CPUID
#include <Eigen/Dense>

#endif  // NIBBLE_ENGINE_QUANT_CALIBRATION_EIGEN_H_
