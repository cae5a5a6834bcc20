// The codecs of the KV cache by name, and what they promise. See page_codec.h for how one works.
//
// The page-banded rule: a query in page i reads page j raw where j >= i - window_pages or j < sink_pages, and sealed
// otherwise, whoever asks and in whatever chunk.
#ifndef NIBBLE_KVCACHE_CODECS_CODEC_H_
#define NIBBLE_KVCACHE_CODECS_CODEC_H_

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "kvcache/codecs/calibration.h"
#include "kvcache/codecs/page_codec.h"
#include "kvcache/codecs/raw_form.h"
#include "kvcache/simd/isa.h"

namespace nibble::kv {

// One rotary position embedding: position p turns pair i by p * frequencies[i] radians.
struct Rope {
  bool interleaved = false;         // pairs (2i, 2i + 1); otherwise (i, i + frequencies.size())
  std::vector<double> frequencies;  // [rotated dimensions / 2]; the other dimensions stay
};

// What a codec has to know of a model.
struct CodecModel {
  int num_layers = 0;
  int num_kv_heads = 0;
  int head_dim = 0;
  int64_t max_pages = 0;           // of one sequence
  std::vector<Rope> ropes;         // the distinct ones
  std::vector<int> rope_of_layer;  // [num_layers], into ropes
};

struct Codec {
  std::string_view name;
  int window_pages;
  int sink_pages;
  bool calibrated;  // needs a Calibration
  const RawForm& (*raw_form)(simd::Isa isa);
  // nullptr: pages stay raw, and the two numbers above mean nothing. `calibration` is not kept.
  // INVALID_ARGUMENT for a model or calibration that the codec cannot serve, saying why.
  absl::StatusOr<std::unique_ptr<PageCodec>> (*create)(const CodecModel& model, const Calibration* calibration,
                                                       simd::Isa isa);
};

// nullptr for a name that is not in the table.
const Codec* FindCodec(std::string_view name);

}  // namespace nibble::kv

#endif  // NIBBLE_KVCACHE_CODECS_CODEC_H_
