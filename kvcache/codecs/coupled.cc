#include "kvcache/codecs/coupled.h"

#include <bit>
#include <cmath>
#include <limits>

#include "kvcache/base/status_macros.h"
#include "kvcache/codecs/coupled_tables.h"
#include "kvcache/simd/prefetch.h"
#include "kvcache/simd/targets.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kvcache/codecs/coupled.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "hwy/highway.h"
#include "kvcache/codecs/coupled_cells-inl.h"
#include "kvcache/codecs/coupled_encode-inl.h"

#if HWY_TARGET == HWY_AVX3_DL
NIBBLE_BEFORE_VNNI_NAMESPACE();
#else
HWY_BEFORE_NAMESPACE();
#endif
namespace nibble {
namespace kv {
namespace HWY_NAMESPACE {
namespace {

constexpr int kRowsAtOnce = 3;
constexpr int kMaxRowPages = kPagesAtOnce * kRowsAtOnce;
// A head whose pairs do not fill a multiple of 16 grows by as much as twice 15, and by 31 for what is left.
constexpr int kMaxTurned = kMaxCoupledHeadDim + 64;

// A prepared query: its channels in turned order times `L / norm`, then `scale`.
struct QueryScale {
  float inverse, scale;
};

QueryScale ScaleOfSquare(I16 largest_square, int head_dim) {
  const int32_t bits = LargestLane(largest_square);
  if (bits >= 0x7F800000) return {0.0f, std::numeric_limits<float>::quiet_NaN()};
  const auto square = std::bit_cast<float>(bits);
  if (square < 1e-30f) return {0.0f, 0.0f};
  const auto limit = static_cast<float>(QueryLimit(head_dim));
  const float norm = std::sqrt(square);
  return {limit / norm, norm * (1.0f / limit)};
}

void PrepareQuery(const PageTurns& turns, int head_dim, const float* query, float* prepared) {
  for (int i = 0; i < turns.size(); ++i) prepared[i] = turns.channel(i) < 0 ? 0.0f : query[turns.channel(i)];
  I16 largest = SetInt(0);
  for (int i = 0; i < 2 * turns.lanes(); i += 32) {
    const V16 a = Load(prepared + i), b = Load(prepared + i + 16);
    largest = MaxInt(largest, MagnitudeBits(Fma(a, a, Mul(b, b))));
  }
  for (int i = 2 * turns.lanes(); i < turns.size(); i += 16) {
    const V16 a = Load(prepared + i);
    largest = MaxInt(largest, MagnitudeBits(Mul(a, a)));
  }
  const QueryScale scale = ScaleOfSquare(largest, head_dim);
  if (scale.inverse == 0.0f) std::fill_n(prepared, turns.size(), 0.0f);
  for (int i = 0; i < turns.size(); i += 16) Store(Mul(Load(prepared + i), Set(scale.inverse)), prepared + i);
  prepared[turns.size()] = scale.scale;
}

// Queries on pages, each pair of the two being a row: what meets the cells of that page.
struct RowPages {
  HWY_ALIGN int16_t x[kMaxRowPages * kMaxTurned];
  HWY_ALIGN uint8_t operands[kMaxRowPages * kMaxCoupledHeadDim * 2];
  float query_scale[kMaxRowPages], bias[kMaxRowPages], scale[kMaxRowPages];
  int32_t offset[kMaxRowPages];  // what the cells' offset adds to a dot product
};

// Turns a prepared query back and rounds it.
HWY_INLINE void TurnQuery(const KeyTables& keys, const PageTurns& turns, const float* prepared, int64_t page, int row,
                          RowPages* rows) {
  const float *mean = keys.turned_mean.data.get(), *cosines = turns.cosines(page), *sines = turns.sines(page);
  V16 product = Zero();
  int16_t* x = rows->x + row * turns.size();
  int i = 0;
  for (; i < 2 * turns.lanes(); i += 32) {
    const TurnedPair turned =
        TurnBack(Load(prepared + i), Load(prepared + i + 16), Load(cosines + i / 2), Load(sines + i / 2));
    StoreInTurn(NearestInt(turned.a), NearestInt(turned.b), x + i);
    product = Fma(turned.b, Load(mean + i + 16), Fma(turned.a, Load(mean + i), product));
  }
  for (; i < turns.size(); i += 32) {
    const V16 a = Load(prepared + i), b = Load(prepared + i + 16);
    StoreInTurn(NearestInt(a), NearestInt(b), x + i);
    product = Fma(b, Load(mean + i + 16), Fma(a, Load(mean + i), product));
  }
  rows->query_scale[row] = prepared[turns.size()];
  rows->bias[row] = SumLanes(product) * rows->query_scale[row];
}

// The product with `m` of rows [first, first + kRows), kPanels panels at a time: y, [rows][width].
template <int kRows, int kPanels>
HWY_INLINE void MultiplyPanels(const KeyTables& keys, int turned, const RowPages& rows, int first, int panel,
                               float* y) {
  const int width = OperandWidth(keys);
  I16 dots[kRows][kPanels];
  PairDots<kRows, kPanels>(keys.matrix.data.get() + panel * 16 * turned, 16 * turned, turned / 2,
                           rows.x + first * turned, turned, dots);
  NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
    NIBBLE_UNROLL for (int p = 0; p < kPanels; ++p) {
      const int j = (panel + p) * 16;
      Store(Mul(ToFloat(dots[r][p]), Load(keys.row_scales.data.get() + j)), y + (first + r) * width + j);
    }
  }
}

inline constexpr int kPanelsAtOnce = kParts == 1 ? 4 : 1;

template <int kRows>
void Multiply(const KeyTables& keys, int turned, const RowPages& rows, int first, float* y) {
  const int panels = keys.padded / 16;
  int panel = 0;
  for (; panel + kPanelsAtOnce <= panels; panel += kPanelsAtOnce) {
    MultiplyPanels<kRows, kPanelsAtOnce>(keys, turned, rows, first, panel, y);
  }
  for (; panel < panels; ++panel) MultiplyPanels<kRows, 1>(keys, turned, rows, first, panel, y);
  const int width = OperandWidth(keys);
  for (int j = keys.padded; j < width; j += 16) {
    for (int r = 0; r < kRows; ++r) Store(Zero(), y + (first + r) * width + j);
  }
}

// Rounds y, [width], to operands. Its numbers are finite: checked calibrations and prepared queries leave no other.
HWY_INLINE void RoundOperands(const float* y, int width, int row, RowPages* rows) {
  I16 largest = SetInt(0);
  for (int j = 0; j < width; j += 16) largest = MaxInt(largest, MagnitudeBits(Load(y + j)));
  const OperandScale s = ScaleOfLargest<true, true>(LargestLane(largest));
  rows->scale[row] = s.scale * rows->query_scale[row];
  rows->offset[row] = -kKeyOffset * StoreKeyOperands(y, width, Set(s.inverse), rows->operands + row * 2 * width);
}

class Coupled final : public PageCodec {
 public:
  Coupled(const CodecModel& model, const Calibration& calibration) : tables_(model, calibration) {}

  int64_t page_bytes() const final { return tables_.offsets.back(); }
  int64_t head_offset(HeadId head) const final { return tables_.offsets[Index(head)]; }
  int64_t table_bytes() const final { return tables_.table_bytes(); }

  void Encode(HeadId head, int64_t page_index, const uint16_t* raw, std::byte* out) const final {
    HWY_ALIGN float x[kMaxCoupledHeadDim * kPageTokens];
    const int dim = tables_.head_dim;
    auto* codes = reinterpret_cast<uint8_t*>(out);
    LoadKeys(raw, dim, Turns(head), page_index, x);
    EncodeHead(Keys(head), dim, x, true, codes);
    LoadValues(raw + static_cast<int64_t>(dim) * kPageTokens, dim, x);
    EncodeHead(Values(head), dim, x, false, codes + Keys(head).code_bytes());
  }

  int64_t query_floats() const final { return tables_.largest_turned + 1; }
  void PrepareQueries(HeadId head, const float* queries, int rows, float* prepared) const final {
    for (int r = 0; r < rows; ++r) {
      PrepareQuery(Turns(head), tables_.head_dim, queries + static_cast<int64_t>(r) * tables_.head_dim,
                   prepared + r * query_floats());
    }
  }

  void Scores(HeadId head, const PageRun& run, const float* prepared, int rows, float* scores,
              int64_t score_stride) const final {
    const KeyTables& keys = Keys(head);
    HWY_ALIGN KeyCell cells[kPagesAtOnce * kMaxCoupledHeadDim * kPageTokens];
    ScoreCall call = {&keys, &Turns(head), prepared, cells, run.first_index, 0, scores, score_stride};
    for (size_t first = 0; first < run.pages.size(); first += kPagesAtOnce) {
      const auto fetch = FetchOf<KeyCell>(keys, run.pages.subspan(first, kPagesAtOnce), 0, cells);
      for (const std::byte* page : run.pages.subspan(first + fetch.pages, kPagesAtOnce)) {
        simd::PrefetchBytes(page, keys.code_bytes());
      }
      for (const std::byte* page : run.pages.subspan(first, kPagesAtOnce)) {  // values, for Mix
        simd::PrefetchBytes(page + keys.code_bytes(), Values(head).code_bytes());
      }
      FetchKeys(keys, fetch);
      call.pages = fetch.pages;
      int row = 0;
      for (; row + kRowsAtOnce <= rows; row += kRowsAtOnce) ScoreRows<kRowsAtOnce>(call, row);
      for (; row < rows; ++row) ScoreRows<1>(call, row);
      call.first_page += kPagesAtOnce, call.scores += kPagesAtOnce * kPageTokens;
    }
  }

  int64_t mix_floats() const final { return tables_.largest_padded + 16; }
  void Mix(HeadId head, const PageRun& run, const float* weights, int64_t weight_stride, int rows,
           float* accumulators) const final {
    const ValueTables& values = Values(head);
    HWY_ALIGN ValueCell cells[kPagesAtOnce * kMaxCoupledHeadDim * kPageTokens];
    for (size_t first = 0; first < run.pages.size(); first += kPagesAtOnce) {
      const auto pages = run.pages.subspan(first, kPagesAtOnce);
      const auto fetch = FetchOf<ValueCell>(values, pages, Keys(head).code_bytes(), cells);
      FetchValues(values, fetch);
      for (int p = 0; p < fetch.pages; ++p, weights += kPageTokens) {
        const MixCall call = {&values, fetch.cells[p], weights, weight_stride, accumulators};
        int row = 0;
        for (; row + kRowsAtOnce <= rows; row += kRowsAtOnce) MixRows<kRowsAtOnce>(call, row);
        for (; row < rows; ++row) MixRows<1>(call, row);
      }
    }
  }

  void FinishMix(HeadId head, const float* accumulators, int rows, float* mixed) const final {
    for (int r = 0; r < rows; ++r) {
      FinishRow(Values(head), accumulators + r * mix_floats(), mixed + static_cast<int64_t>(r) * tables_.head_dim);
    }
  }

 private:
  struct ScoreCall {
    const KeyTables* keys;
    const PageTurns* turns;
    const float* prepared;
    const KeyCell* cells;  // of `pages` pages
    int64_t first_page;
    int pages;
    float* scores;
    int64_t score_stride;
  };
  struct MixCall {
    const ValueTables* values;
    const ValueCell* cells;
    const float* weights;
    int64_t weight_stride;
    float* accumulators;
  };

  size_t Index(HeadId head) const { return static_cast<size_t>(head.layer) * tables_.num_kv_heads + head.kv_head; }
  const KeyTables& Keys(HeadId head) const { return tables_.keys[Index(head)]; }
  const ValueTables& Values(HeadId head) const { return tables_.values[Index(head)]; }
  const PageTurns& Turns(HeadId head) const { return tables_.turns[tables_.rope_of_layer[head.layer]]; }

  template <typename Cell>
  static Fetch<Cell> FetchOf(const HeadTables& tables, absl::Span<const std::byte* const> pages, int64_t offset,
                             Cell* cells) {
    Fetch<Cell> fetch = {};
    fetch.pages = static_cast<int>(pages.size());
    for (int p = 0; p < kPagesAtOnce; ++p) {  // where there is one page, it takes the other's place too
      fetch.codes[p] = reinterpret_cast<const uint8_t*>(pages[std::min(p, fetch.pages - 1)]) + offset;
      fetch.cells[p] = cells + int64_t{p} * tables.padded * kPageTokens;
    }
    return fetch;
  }

  template <int kRows>
  void ScoreRows(const ScoreCall& call, int first_row) const {
    const KeyTables& keys = *call.keys;
    const int turned = call.turns->size(), width = OperandWidth(keys);
    RowPages rows;
    HWY_ALIGN float y[kMaxRowPages * kMaxCoupledHeadDim];
    for (int p = 0; p < call.pages; ++p) {
      for (int r = 0; r < kRows; ++r) {
        const float* prepared = call.prepared + (first_row + r) * query_floats();
        TurnQuery(keys, *call.turns, prepared, call.first_page + p, p * kRows + r, &rows);
      }
    }
    if (call.pages == kPagesAtOnce) {
      Multiply<kPagesAtOnce * kRows>(keys, turned, rows, 0, y);
    } else {
      Multiply<kRows>(keys, turned, rows, 0, y);
    }
    for (int row = 0; row < call.pages * kRows; ++row) RoundOperands(y + row * width, width, row, &rows);
    for (int p = 0; p < call.pages; ++p) {
      const KeyOperands operands = {rows.operands + p * kRows * 2 * width, 2 * width, width};
      I16 dots[kRows][2];
      KeyDots<kRows>(call.cells + p * keys.padded * kPageTokens, KeyFolds(keys), operands, dots);
      NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
        const int row = p * kRows + r;
        float* out = call.scores + (first_row + r) * call.score_stride + p * kPageTokens;
        NIBBLE_UNROLL for (int half = 0; half < 2; ++half) {
          I16 dot;
          NIBBLE_PARTS dot.v[i] = hn::Add(dots[r][half].v[i], hn::Set(I(), rows.offset[row]));
          Store(Fma(ToFloat(dot), Set(rows.scale[row]), Set(rows.bias[row])), out + 16 * half);
        }
      }
    }
  }

  template <int kRows, int kPanels>
  HWY_INLINE void MixPanels(const MixCall& call, const WeightOperand* operands, const float* scales, int first_row,
                            int panel) const {
    I16 dots[kRows][kPanels];
    ValueDots<kRows, kPanels>(call.cells + panel * 16 * kPageTokens, operands, dots);
    NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
      float* out = call.accumulators + (first_row + r) * mix_floats() + panel * 16;
      const V16 scale = Set(scales[r]);
      NIBBLE_UNROLL for (int p = 0; p < kPanels; ++p) {
        Store(Fma(ToFloat(dots[r][p]), scale, Load(out + 16 * p)), out + 16 * p);
      }
    }
  }

  template <int kRows>
  void MixRows(const MixCall& call, int first_row) const {
    HWY_ALIGN WeightOperand operands[kRows * kPageTokens];
    float scales[kRows];
    for (int r = 0; r < kRows; ++r) {
      const float* weights = call.weights + (first_row + r) * call.weight_stride;
      scales[r] = RoundWeights(weights, operands + r * kPageTokens);
      float* lanes = call.accumulators + (first_row + r) * mix_floats() + tables_.largest_padded;
      Store(AddUnlessZero(Add(Load(weights), Load(weights + 16)), Load(lanes)), lanes);
    }
    const int panels = call.values->padded / 16;
    int panel = 0;
    for (; panel + kPanelsAtOnce <= panels; panel += kPanelsAtOnce) {
      MixPanels<kRows, kPanelsAtOnce>(call, operands, scales, first_row, panel);
    }
    for (; panel < panels; ++panel) MixPanels<kRows, 1>(call, operands, scales, first_row, panel);
  }

  void FinishRow(const ValueTables& values, const float* accumulators, float* mixed) const {
    const V16 weight = Set(SumLanes(Load(accumulators + tables_.largest_padded)));
    for (int i = 0; i < tables_.head_dim; i += 16) {
      V16 u = Zero();
      for (int j = 0; j < values.coefficients; ++j) {
        const V16 v = Set(accumulators[j] * values.centroid_scale.data[j]);
        u = Fma(v, LoadHalf(values.synthesis.data.get() + j * tables_.head_dim + i), u);
      }
      u = Fma(weight, Load(values.mean.data.get() + i), u);
      Store(Add(Load(mixed + i), u), mixed + i);
    }
  }

  CoupledTables tables_;
};

std::unique_ptr<PageCodec> New(const CodecModel& model, const Calibration& calibration) {
  return std::make_unique<Coupled>(model, calibration);
}

}  // namespace
}  // namespace HWY_NAMESPACE
}  // namespace kv
}  // namespace nibble
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace nibble::kv {

absl::StatusOr<std::unique_ptr<PageCodec>> CreateCoupled(std::string_view name, const CodecModel& model,
                                                         const Calibration* calibration, simd::Isa isa) {
  NIBBLE_RETURN_IF_ERROR(CheckCoupled(model, calibration, name));
  return NIBBLE_FOR_ISA(isa, New(model, *calibration));
}

}  // namespace nibble::kv
#endif  // HWY_ONCE
