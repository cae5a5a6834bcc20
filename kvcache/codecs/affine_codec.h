// What the affine codecs share apart from kernels: where heads lie in a page, and how codes of a few bits lie in bytes.
//
// Packed codes. A matrix of codes [n][lanes] (keys: n = channel, lanes = tokens; values: n = token, lanes = channels)
// lies in blocks of 4 * fields consecutive n, fields = 8 / bits: block p has 4 bytes per lane, and byte j of lane l
// holds in its bits [f * bits, (f + 1) * bits) the code of n = 4 * (p * fields + f) + j. So 32 bits of a lane are four
// consecutive n, which is what the integer dot products of x86 multiply and add.
#ifndef NIBBLE_KVCACHE_CODECS_AFFINE_CODEC_H_
#define NIBBLE_KVCACHE_CODECS_AFFINE_CODEC_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kvcache/codecs/codec.h"

namespace nibble::kv {

inline constexpr int kGroup = 32;  // channels that share parameters
inline constexpr int kMaxHeadDim = 512;

inline absl::Status CheckHeadDim(int head_dim) {
  if (head_dim > 0 && head_dim <= kMaxHeadDim && head_dim % kGroup == 0) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("kv codec: head_dim ", head_dim, " is not a multiple of ", kGroup,
                                                 " from ", kGroup, " to ", kMaxHeadDim));
}

// All heads have the same size and nothing is kept beside the pages.
class AffineCodec : public PageCodec {
 public:
  AffineCodec(const CodecModel& model, int64_t head_bytes)
      : num_layers_(model.num_layers),
        num_kv_heads_(model.num_kv_heads),
        head_dim_(model.head_dim),
        head_bytes_(head_bytes) {}

  int64_t page_bytes() const final { return head_bytes_ * num_layers_ * num_kv_heads_; }
  int64_t head_offset(HeadId head) const final {
    return head_bytes_ * (static_cast<int64_t>(head.layer) * num_kv_heads_ + head.kv_head);
  }
  int64_t table_bytes() const final { return 0; }

 protected:
  int head_dim() const { return head_dim_; }
  int groups() const { return head_dim_ / kGroup; }

 private:
  int num_layers_, num_kv_heads_, head_dim_;
  int64_t head_bytes_;
};

// Packs codes [32][lanes], code (n, lane) at codes[lane * lane_stride + n], blocks `block_bytes` apart. Of a code the
// low kBits count, exclusive-or `flip`.
template <int kBits>
void PackCodes(const uint8_t* codes, int64_t lane_stride, int lanes, uint8_t flip, uint8_t* out, int64_t block_bytes) {
  constexpr int kFields = 8 / kBits, kMask = (1 << kBits) - 1;
  for (int block = 0; block < 32 / (4 * kFields); ++block) {
    for (int lane = 0; lane < lanes; ++lane) {
      for (int j = 0; j < 4; ++j) {
        const uint8_t* code = codes + lane * lane_stride + 4 * block * kFields + j;
        int packed = 0;
        for (int f = 0; f < kFields; ++f) packed |= ((code[4 * f] ^ flip) & kMask) << (kBits * f);
        out[block * block_bytes + lane * 4 + j] = static_cast<uint8_t>(packed);
      }
    }
  }
}

}  // namespace nibble::kv

#endif  // NIBBLE_KVCACHE_CODECS_AFFINE_CODEC_H_
