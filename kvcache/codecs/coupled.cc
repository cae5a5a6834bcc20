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
#include "kvcache/codecs/coupled_encode-inl.h"
#include "kvcache/codecs/coupled_operands-inl.h"
#include "kvcache/codecs/coupled_pages-inl.h"

#if HWY_TARGET == HWY_AVX3_DL
NIBBLE_BEFORE_VNNI_NAMESPACE();
#else
HWY_BEFORE_NAMESPACE();
#endif
namespace nibble {
namespace kv {
namespace HWY_NAMESPACE {
namespace {

// Rows that meet a page's cells together, and rows that are multiplied by the matrix together.
constexpr int kRowsAtOnce = 3;
constexpr int kQueriesAtOnce = 6;
// Rows from which on it is worth keeping what would be looked up, or widened, for every few of them.
constexpr int kKeptRows = 2 * kRowsAtOnce;
// Pages whose keys are asked for before queries enter their span, where nobody asked before.
constexpr size_t kFirstPages = 6;
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

void PrepareQuery(const SpanTurns& turns, int head_dim, const float* query, float* prepared) {
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

// Queries in the frame of a span: what meets the cells of its pages.
struct SpanQueries {
  HWY_ALIGN KeyOperand operands[kBlockRows * kMaxCoupledHeadDim];
  float bias[kBlockRows], scale[kBlockRows];
  int32_t offset[kBlockRows];  // what the cells' offset adds to a dot product
};

// Turns a prepared query back and rounds it to x; returns its product with the mean.
HWY_INLINE float TurnQuery(const KeyTables& keys, const SpanTurns& turns, const float* prepared, int64_t span,
                           int16_t* x) {
  const float *mean = keys.turned_mean.data.get(), *cosines = turns.cosines(span), *sines = turns.sines(span);
  V16 product = Zero();
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
  return SumLanes(product);
}

// The product of rows of x with `m`, kPanels panels at a time: y, [rows][width].
template <int kRows, int kPanels>
HWY_INLINE void MultiplyPanels(const KeyTables& keys, int turned, const int16_t* x, int panel, float* y) {
  const int width = OperandWidth(keys);
  I16 dots[kRows][kPanels];
  PairDots<kRows, kPanels>(keys.matrix.data.get() + panel * 16 * turned, 16 * turned, turned / 2, x, turned, dots);
  NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
    NIBBLE_UNROLL for (int p = 0; p < kPanels; ++p) {
      const int j = (panel + p) * 16;
      Store(Mul(ToFloat(dots[r][p]), Load(keys.row_scales.data.get() + j)), y + r * width + j);
    }
  }
}

inline constexpr int kPanelsAtOnce = kParts == 1 ? 4 : 1;

template <int kRows>
void Multiply(const KeyTables& keys, int turned, const int16_t* x, float* y) {
  const int panels = keys.padded / 16;
  int panel = 0;
  for (; panel + kPanelsAtOnce <= panels; panel += kPanelsAtOnce) {
    MultiplyPanels<kRows, kPanelsAtOnce>(keys, turned, x, panel, y);
  }
  for (; panel < panels; ++panel) MultiplyPanels<kRows, 1>(keys, turned, x, panel, y);
  const int width = OperandWidth(keys);
  for (int j = keys.padded; j < width; j += 16) {
    for (int r = 0; r < kRows; ++r) Store(Zero(), y + r * width + j);
  }
}

// Rounds y, [width], to a row's operands. Its numbers are finite: checked calibrations and prepared queries leave no
// other.
HWY_INLINE void RoundOperands(const float* y, int width, int row, float query_scale, SpanQueries* queries) {
  I16 largest = SetInt(0);
  for (int j = 0; j < width; j += 16) largest = MaxInt(largest, MagnitudeBits(Load(y + j)));
  const OperandScale s = ScaleOfLargest<true, false>(LargestLane(largest));
  queries->scale[row] = s.scale * query_scale;
  queries->offset[row] = -kKeyOffset * StoreKeyOperands(y, width, Set(s.inverse), queries->operands + row * width);
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
    LoadKeys(raw, dim, Turns(head), page_index / kSpanPages, x);
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
    for (const std::byte* page : run.pages.subspan(0, kFirstPages)) {
      simd::PrefetchBytes(page, Keys(head).code_bytes());
    }
    SpanQueries queries;
    int64_t first = 0;
    while (first < static_cast<int64_t>(run.pages.size())) {
      const int64_t span = (run.first_index + first) / kSpanPages;
      const auto pages = run.pages.subspan(first, PagesToSpanEnd(run.first_index + first));
      for (int row = 0; row < rows; row += kBlockRows) {
        const int count = std::min(kBlockRows, rows - row);
        EnterSpan(head, span, prepared + row * query_floats(), count, &queries);
        ScoreSpan(head, pages, queries, count, scores + row * score_stride + first * kPageTokens, score_stride);
      }
      first += static_cast<int64_t>(pages.size());
    }
  }

  int64_t mix_floats() const final { return tables_.largest_padded + 16; }
  void Mix(HeadId head, const PageRun& run, const float* weights, int64_t weight_stride, int rows,
           float* accumulators) const final {
    int64_t first = 0;
    while (first < static_cast<int64_t>(run.pages.size())) {
      const auto pages = run.pages.subspan(first, PagesToSpanEnd(run.first_index + first));
      const SpanCodes codes = ValuesOf(head, pages);
      ValuePages of(Values(head), codes);
      for (int row = 0; row < rows; row += kBlockRows) {
        MixBlock(Values(head), codes.pages, weights + row * weight_stride + first * kPageTokens, weight_stride,
                 std::min(kBlockRows, rows - row), first == 0 && row == 0 ? &run.ahead : nullptr, &of,
                 accumulators + row * mix_floats());
      }
      first += codes.pages;
    }
  }

  void FinishMix(HeadId head, const float* accumulators, int rows, float* mixed) const final {
    for (int r = 0; r < rows; ++r) {
      FinishRow(Values(head), accumulators + r * mix_floats(), mixed + static_cast<int64_t>(r) * tables_.head_dim);
    }
  }

 private:
  size_t Index(HeadId head) const { return static_cast<size_t>(head.layer) * tables_.num_kv_heads + head.kv_head; }
  const KeyTables& Keys(HeadId head) const { return tables_.keys[Index(head)]; }
  const ValueTables& Values(HeadId head) const { return tables_.values[Index(head)]; }
  const SpanTurns& Turns(HeadId head) const { return tables_.turns[tables_.rope_of_layer[head.layer]]; }

  // One of `parts` parts of what is ahead: memory takes only so many lines at a time.
  void PrefetchAhead(const PagesAhead& ahead, int64_t part, int64_t parts) const {
    const auto pages = static_cast<int64_t>(ahead.pages.size());
    const int64_t bytes = Keys(ahead.head).code_bytes();
    for (int64_t p = part * pages / parts; p < (part + 1) * pages / parts; ++p) {
      simd::PrefetchBytes(ahead.pages[p], bytes);
    }
  }

  static size_t PagesToSpanEnd(int64_t page) { return kSpanPages - page % kSpanPages; }

  // Where there is one page, it takes the other's place too.
  static PageCodes KeysOf(absl::Span<const std::byte* const> pages) {
    return {reinterpret_cast<const uint8_t*>(pages.front()), reinterpret_cast<const uint8_t*>(pages.back())};
  }

  SpanCodes ValuesOf(HeadId head, absl::Span<const std::byte* const> pages) const {
    SpanCodes codes = {static_cast<int>(pages.size()), {}};
    for (size_t p = 0; p < (pages.size() + 1) / 2 * 2; ++p) {
      codes.of[p] = reinterpret_cast<const uint8_t*>(pages[std::min(p, pages.size() - 1)]) + Keys(head).code_bytes();
    }
    return codes;
  }

  template <int kRows>
  void EnterRows(HeadId head, int64_t span, const float* prepared, int first_row, SpanQueries* queries) const {
    const KeyTables& keys = Keys(head);
    const SpanTurns& turns = Turns(head);
    const int width = OperandWidth(keys);
    HWY_ALIGN int16_t x[kRows * kMaxTurned];
    HWY_ALIGN float y[kRows * kMaxCoupledHeadDim];
    for (int r = 0; r < kRows; ++r) {
      const float* query = prepared + (first_row + r) * query_floats();
      queries->bias[first_row + r] = TurnQuery(keys, turns, query, span, x + r * turns.size()) * query[turns.size()];
    }
    Multiply<kRows>(keys, turns.size(), x, y);
    for (int r = 0; r < kRows; ++r) {
      const float query_scale = prepared[(first_row + r) * query_floats() + turns.size()];
      RoundOperands(y + r * width, width, first_row + r, query_scale, queries);
    }
  }

  // Brings queries into the frame of a span.
  void EnterSpan(HeadId head, int64_t span, const float* prepared, int rows, SpanQueries* queries) const {
    int row = 0;
    for (; row + kQueriesAtOnce <= rows; row += kQueriesAtOnce) {
      EnterRows<kQueriesAtOnce>(head, span, prepared, row, queries);
    }
    for (; row + kRowsAtOnce <= rows; row += kRowsAtOnce) EnterRows<kRowsAtOnce>(head, span, prepared, row, queries);
    for (; row < rows; ++row) EnterRows<1>(head, span, prepared, row, queries);
  }

  // Pages of one span.
  void ScoreSpan(HeadId head, absl::Span<const std::byte* const> pages, const SpanQueries& queries, int rows,
                 float* scores, int64_t score_stride) const {
    const KeyTables& keys = Keys(head);
    for (size_t first = 0; first < pages.size(); first += kPagesScored) {
      const auto now = pages.subspan(first, kPagesScored);
      for (const std::byte* page : now) {  // values, for Mix
        simd::PrefetchBytes(page + keys.code_bytes(), Values(head).code_bytes());
      }
      KeyPages of(keys, KeysOf(now));
      if (rows >= kKeptRows) of.Keep();
      const ScoreCall call = {&keys,       &of, &queries, static_cast<int>(now.size()), scores + first * kPageTokens,
                              score_stride};
      int row = 0;
      for (; row + kRowsAtOnce <= rows; row += kRowsAtOnce) ScoreRows<kRowsAtOnce>(call, row);
      for (; row < rows; ++row) ScoreRows<1>(call, row);
    }
  }

  struct ScoreCall {
    const KeyTables* keys;
    const KeyPages* of;
    const SpanQueries* queries;
    int pages;
    float* scores;
    int64_t score_stride;
  };

  template <int kRows>
  static void ScoreRows(const ScoreCall& call, int first_row) {
    const int width = OperandWidth(*call.keys);
    const SpanQueries& queries = *call.queries;
    I16 dots[kPagesScored][kRows][2];
    call.of->Dots<kRows>({queries.operands + first_row * width, width}, dots);
    for (int p = 0; p < call.pages; ++p) {
      NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
        const int row = first_row + r;
        float* out = call.scores + row * call.score_stride + p * kPageTokens;
        NIBBLE_UNROLL for (int half = 0; half < 2; ++half) {
          I16 dot;
          NIBBLE_PARTS dot.v[i] = hn::Add(dots[p][r][half].v[i], hn::Set(I(), queries.offset[row]));
          Store(Fma(ToFloat(dot), Set(queries.scale[row]), Set(queries.bias[row])), out + 16 * half);
        }
      }
    }
  }

  // Weights of a block of rows over the pages of a span, rounded to what meets their cells.
  struct RoundedWeights {
    WeightRows operands;
    float scales[kBlockRows];
  };

  // Rounds the weights of a row, and adds them up in `lanes`. What rounding leaves of a weight goes to the one a page
  // later, for many small ones together may count.
  static void RoundRow(const float* weights, int pages, int row, RoundedWeights* rounded, float* lanes) {
    constexpr float kLimit = kOperandLimit<false, false>;
    const V16 limit = Set(kLimit);
    V16 left[2] = {Zero(), Zero()}, sums[2] = {Zero(), Zero()};
    const int tokens = pages * kPageTokens;
    for (int t = 0; t < tokens; t += kPageTokens) {
      NIBBLE_UNROLL for (int half = 0; half < 2; ++half) {
        const V16 weight = Load(weights + t + 16 * half), wanted = Fma(weight, limit, left[half]);
        const I16 operand = NearestInt(Min(wanted, limit));
        left[half] = Sub(wanted, ToFloat(operand));
        sums[half] = Add(sums[half], weight);
        rounded->operands.Set(row, t + 16 * half, operand);
      }
    }
    const V16 sum = Add(sums[0], sums[1]);
    if (pages % 2 != 0) {  // the page that is there twice
      for (int t = tokens; t < tokens + kPageTokens; t += 16) rounded->operands.Set(row, t, SetInt(0));
    }
    const int32_t largest = LargestLane(MagnitudeBits(sum));
    // Nothing changes no bit.
    rounded->scales[row] = largest == 0            ? -0.0f
                           : largest >= 0x7F800000 ? std::numeric_limits<float>::quiet_NaN()
                                                   : 1.0f / kLimit;
    Store(AddUnlessZero(sum, Load(lanes)), lanes);
  }

  // `ahead`: what to ask for meanwhile, or nullptr.
  void MixBlock(const ValueTables& values, int pages, const float* weights, int64_t weight_stride, int rows,
                const PagesAhead* ahead, ValuePages* of, float* accumulators) const {
    RoundedWeights rounded;
    for (int r = 0; r < rows; ++r) {
      float* lanes = accumulators + r * mix_floats() + tables_.largest_padded;
      RoundRow(weights + r * weight_stride, pages, r, &rounded, lanes);
    }
    const int panels = values.padded / 16;
    for (int panel = 0; panel < panels; ++panel, accumulators += 16) {
      if (ahead != nullptr) PrefetchAhead(*ahead, panel, panels);
      if (ValuePages::kKeepsAlways || rows >= kKeptRows) of->Keep(panel);
      const MixCall call = {of, panel, &rounded};
      int row = 0;
      for (; row + kRowsAtOnce <= rows; row += kRowsAtOnce) MixRows<kRowsAtOnce>(call, row, accumulators);
      for (; row < rows; ++row) MixRows<1>(call, row, accumulators);
    }
  }

  struct MixCall {
    const ValuePages* of;
    int panel;
    const RoundedWeights* weights;
  };

  template <int kRows>
  HWY_INLINE void MixRows(const MixCall& call, int first_row, float* accumulators) const {
    float* out = accumulators + first_row * mix_floats();
    I16 dots[kRows];
    call.of->Dots<kRows>(call.panel, call.weights->operands, first_row, dots);
    NIBBLE_UNROLL for (int r = 0; r < kRows; ++r) {
      const V16 scale = Set(call.weights->scales[first_row + r]), sum = Load(out + r * mix_floats());
      Store(Fma(ToFloat(dots[r]), scale, sum), out + r * mix_floats());
    }
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
