#include "engine/tokenizer/jinja/arithmetic.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "absl/strings/str_cat.h"
#include "engine/tokenizer/jinja/builtins.h"
#include "engine/tokenizer/jinja/text_operations.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine::jinja {
namespace {

using Result = absl::StatusOr<Value>;

absl::Status OutOfRange() { return absl::InvalidArgumentError("number is out of range"); }

Result BinaryFloat(std::string_view op, double left, double right) {
  if (op == "+") return Value(left + right);
  if (op == "-") return Value(left - right);
  if (op == "*") return Value(left * right);
  if (right == 0) return absl::InvalidArgumentError("division by zero");
  if (op == "/") return Value(left / right);
  const double floor = std::floor(left / right);
  return Value(op == "//" ? floor : left - floor * right);
}

// Division rounds down, and a remainder has the sign of the divisor.
Result DivideInteger(std::string_view op, int64_t left, int64_t right) {
  if (right == 0) return absl::InvalidArgumentError("division by zero");
  if (left == INT64_MIN && right == -1) return OutOfRange();
  const bool down = left % right != 0 && (left < 0) != (right < 0);
  return op == "//" ? Value(left / right - (down ? 1 : 0)) : Value(left % right + (down ? right : 0));
}

Result BinaryInteger(std::string_view op, int64_t left, int64_t right) {
  int64_t result = 0;
  bool overflow = false;
  if (op == "+") {
    overflow = __builtin_add_overflow(left, right, &result);
  } else if (op == "-") {
    overflow = __builtin_sub_overflow(left, right, &result);
  } else if (op == "*") {
    overflow = __builtin_mul_overflow(left, right, &result);
  } else if (op == "/") {
    return BinaryFloat(op, static_cast<double>(left), static_cast<double>(right));
  } else {
    return DivideInteger(op, left, right);
  }
  if (overflow) return OutOfRange();
  return Value(result);
}

Result Repeat(const Text& text, int64_t times, Budget& budget) {
  if (times <= 0 || text.empty()) return TrustedText("");
  if (static_cast<uint64_t>(times) > kMaxWorkBytes / text.size()) return budget.Charge(kMaxWorkBytes + 1);
  NIBBLE_RETURN_IF_ERROR(budget.Charge(text.size() * static_cast<size_t>(times)));
  Text result;
  for (int64_t i = 0; i < times; ++i) result.Append(text);
  return Value(std::move(result));
}

Result Append(const Value& left, const Value& right, Budget& budget) {
  NIBBLE_RETURN_IF_ERROR(budget.Charge(left.weight() + right.weight()));
  if (left.text() != nullptr) {
    Text result = *left.text();
    result.Append(*right.text());
    return Value(std::move(result));
  }
  std::vector<Value> items = left.list()->items;
  items.insert(items.end(), right.list()->items.begin(), right.list()->items.end());
  return MakeCheckedList(std::move(items), budget);
}

absl::StatusOr<int64_t> Bound(const Value& bound, int64_t otherwise) {
  if (bound.is_undefined() || bound.is_none()) return otherwise;
  if (bound.is_integer()) return bound.integer();
  return absl::InvalidArgumentError("the bounds of a slice must be integers");
}

// The positions that a slice of `size` elements takes, in order.
absl::StatusOr<std::vector<size_t>> SlicePositions(int64_t size, const Value& start, const Value& stop,
                                                   const Value& step) {
  NIBBLE_ASSIGN_OR_RETURN(const int64_t stride, Bound(step, 1));
  if (stride == 0) return absl::InvalidArgumentError("the step of a slice is zero");
  const int64_t lowest = stride > 0 ? 0 : -1;
  const int64_t highest = stride > 0 ? size : size - 1;
  NIBBLE_ASSIGN_OR_RETURN(int64_t from, Bound(start, stride > 0 ? 0 : size - 1));
  NIBBLE_ASSIGN_OR_RETURN(int64_t to, Bound(stop, stride > 0 ? size : -size - 1));
  from = std::clamp(from < 0 ? from + size : from, lowest, highest);
  to = std::clamp(to < 0 ? to + size : to, lowest, highest);
  std::vector<size_t> positions;
  const int64_t far = std::clamp(stride, -size - 1, size + 1);
  for (int64_t i = from; far > 0 ? i < to : i > to; i += far) positions.push_back(static_cast<size_t>(i));
  return positions;
}

Result SliceText(const Text& text, const Value& start, const Value& stop, const Value& step) {
  const std::vector<size_t> offsets = CharacterOffsets(text.bytes());
  NIBBLE_ASSIGN_OR_RETURN(const std::vector<size_t> positions,
                          SlicePositions(static_cast<int64_t>(offsets.size()) - 1, start, stop, step));
  if (positions.empty()) return TrustedText("");
  const bool contiguous = positions.back() - positions.front() == positions.size() - 1;
  if (contiguous) return Value(text.Slice(offsets[positions.front()], offsets[positions.back() + 1]));
  Text result;
  for (size_t i : positions) result.Append(text.Slice(offsets[i], offsets[i + 1]));
  return Value(std::move(result));
}

}  // namespace

Result Binary(std::string_view op, const Value& left, const Value& right, Budget& budget) {
  if (left.is_number() && right.is_number()) {
    const bool real = left.is_float() || right.is_float();
    return real ? BinaryFloat(op, left.number(), right.number()) : BinaryInteger(op, left.integer(), right.integer());
  }
  const bool texts = left.text() != nullptr && right.text() != nullptr;
  const bool lists = left.list() != nullptr && right.list() != nullptr;
  if (op == "+" && (texts || lists)) return Append(left, right, budget);
  if (op == "*" && left.text() != nullptr && right.is_integer()) return Repeat(*left.text(), right.integer(), budget);
  if (op == "*" && right.text() != nullptr && left.is_integer()) return Repeat(*right.text(), left.integer(), budget);
  return absl::InvalidArgumentError(absl::StrCat("'", std::string(op), "' between a value of type ",
                                                 std::string(left.TypeName()), " and one of type ",
                                                 std::string(right.TypeName())));
}

Result Signed(std::string_view op, const Value& value) {
  if (!value.is_number()) return absl::InvalidArgumentError("a sign before something that is no number");
  if (value.is_float()) return Value(op == "-" ? -value.number() : value.number());
  return BinaryInteger(op, 0, value.integer());
}

Result Index(const Value& value, const Value& index, Budget& budget) {
  if (index.text() != nullptr) return Attribute(value, index.text()->bytes());
  if (value.is_undefined()) return absl::InvalidArgumentError("an element of an undefined value");
  if (!index.is_integer()) return Value();
  NIBBLE_RETURN_IF_ERROR(budget.Charge(value.text() != nullptr ? value.weight() * sizeof(size_t) : 1));
  std::vector<size_t> offsets;
  if (value.text() != nullptr) offsets = CharacterOffsets(value.text()->bytes());
  const size_t count = value.list() != nullptr ? value.list()->items.size() : offsets.empty() ? 0 : offsets.size() - 1;
  const int64_t size = static_cast<int64_t>(count);
  if (index.integer() < -size || index.integer() >= size) return Value();
  const auto at = static_cast<size_t>(index.integer() < 0 ? index.integer() + size : index.integer());
  if (value.list() != nullptr) return value.list()->items[at];
  return Value(value.text()->Slice(offsets[at], offsets[at + 1]));
}

Result Slice(const Value& value, const Value& start, const Value& stop, const Value& step, Budget& budget) {
  NIBBLE_RETURN_IF_ERROR(budget.Charge(value.text() != nullptr ? value.weight() * 2 * sizeof(size_t) : 1));
  if (value.text() != nullptr) return SliceText(*value.text(), start, stop, step);
  if (value.list() == nullptr) {
    return absl::InvalidArgumentError(absl::StrCat("a slice of a value of type ", std::string(value.TypeName())));
  }
  const std::vector<Value>& items = value.list()->items;
  NIBBLE_RETURN_IF_ERROR(budget.Charge(items.size() * sizeof(Value)));
  NIBBLE_ASSIGN_OR_RETURN(const std::vector<size_t> positions,
                          SlicePositions(static_cast<int64_t>(items.size()), start, stop, step));
  std::vector<Value> taken;
  for (size_t i : positions) taken.push_back(items[i]);
  return MakeCheckedList(std::move(taken), budget);
}

}  // namespace nibble::engine::jinja
