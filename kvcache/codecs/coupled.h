// The coupled codecs: `cq2`, `cq1` (Coupled Quantization, arXiv 2405.03917) and `klt3`, `klt2`, `klt1`: neighbouring
// coefficients of a vector share a code of one byte, the nearest of 256 centroids, which `klt*` have from 64 mirrored
// entries. One machine serves all five; a Calibration (calibration.h) says everything that differs.
//
// A head's bytes: keys' codes [groups][32], then values' codes [groups][32]. Of keys, the code of token t lies at
// KeyPlace(t), which is where the kernels want it; of values at t.
//
// Frame of keys: turned back by the RoPE angle of the first position of their span (kSpanPages pages, counted from
// position 0), with the cosine and sine as floats: a' = fma(b, sin, a * cos), b' = fma(-a, sin, b * cos) for a pair
// (a, b). Queries are turned back by the same angle, so that their product stays, and by spans rather than pages, since
// it is costly: a span of one page would save a fifth of the KL divergence of klt2 on small models, and read half as
// fast.
//
// Numerics. Floats fuse multiply-add where `fma` stands, everything else rounds once. Long sums are int32.
//
// Analysis and synthesis are halves, taken as floats.
//
// Encoding. x = (raw, of keys turned back) - mean.  z[j] = sum over channels, ascending from 0, of fma(analysis[j][i],
// x[i], z[j]).  An entry's coefficient c[k][j] = float(int8) * centroid_scale[j]; h[k] = half of the sum over the
// group, ascending from 0, of fma(c[k][j], c[k][j], .).  The code is the k of the least
// d[k] = h[k] - sum over the group of z[j] c[k][j], ascending from h[k] by fma(-z[j], c[k][j], .), the lowest k where
// equal: half of the squared distance less half of |z|^2. Of a mirrored codebook the sums over the first, third, ...
// coefficient of the group and over the others, a[k] and b[k], ascending from 0 by fma(z[j], c[k][j], .), stand apart:
// d[k] = (h[k] - |a[k]|) - |b[k]|, and where one is less than 0 its coefficients are turned. A number that is not
// finite gives some code.
//
// Scores, per query row and span:
//   L = min(32767, (2^31 - 1) / (2047 * head_dim)); norm = sqrt(largest a*a + b*b (fma(a, a, b * b)) of a pair or x*x
//   of an unturned channel); p = query * (L / norm); scale = norm * (1 / L). Where norm^2 < 1e-30, p and scale are 0;
//   where it is not finite, p is 0 and scale NaN.  This much holds for every span, since turning keeps norms. q = p
//   turned back; x[i] = nearest(q[i]), ties to even; bias = (q . mean) * scale, the product in sixteen lanes: by chunks
//   of 16 pairs, first members, then second ones; at last what does not turn by chunks of 16: lanes = fma(q, mean,
//   lanes) from 0, then SumLanes; m[j][i] = nearest(M[j][i] / s[j]), where M[j][i] = synthesis[i][j] *
//   centroid_scale[j] and s[j] = float(largest |M[j][.]| / 2047), both in double; where s[j] < 1e-30, both are 0; y[j]
//   = float(sum over i of x[i] m[j][i]) * s[j]; the y[j] are rounded to narrow operands with one scale Y
//   (operands-inl.h); score[t] = fma(float(sum over j of operand[j] * int8 of coefficient j in the centroid of t), Y *
//   scale, bias).
//
// Mix, per row and span of a run: from left[lane] = 0, weight[t] over t ascending is rounded to w[t] = nearest(min(255,
//   fma(weight[t], 255, left[t % 32]))), and left[t % 32] is what that leaves of it: many small weights may together
//   count, beside one that is large. accumulator[j] = fma(float(sum over t of w[t] * int8 of coefficient j in the
//   centroid of t), 1 / 255, accumulator[j]); sixteen more accumulate the weights themselves: lanes[i] = lanes[i] +
//   (sums[i] + sums[i + 16]) unless those are 0, where sums[i] is the sum of weight[t], t % 32 = i, ascending from 0.
//   FinishMix: v[j] = accumulator[j] * centroid_scale[j]; u = 0, then over j ascending fma(v[j], synthesis[i][j],
//   u[i]), then fma(SumLanes(lanes), mean[i], u[i]); mixed[i] += u[i].
//
// A span whose weights are all 0 leaves accumulators and lanes as they are.
//
// No sum leaves int32: D * 2047 * L < 2^31 by L's definition; 512 coefficients * 255 * 127; 256 tokens * 255 * 128.
#ifndef NIBBLE_KVCACHE_CODECS_COUPLED_H_
#define NIBBLE_KVCACHE_CODECS_COUPLED_H_

#include <memory>
#include <string_view>

#include "absl/status/statusor.h"
#include "kvcache/codecs/codec.h"

namespace nibble::kv {

// INVALID_ARGUMENT where the calibration is missing, not made for codec `name`, or does not fit the model: says which
// layer, head and field. The codec keeps nothing of `calibration`.
absl::StatusOr<std::unique_ptr<PageCodec>> CreateCoupled(std::string_view name, const CodecModel& model,
                                                         const Calibration* calibration, simd::Isa isa);

}  // namespace nibble::kv

#endif  // NIBBLE_KVCACHE_CODECS_COUPLED_H_
