#include "engine/tokenizer/jinja/interpreter.h"

#include <array>
#include <deque>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/tokenizer/jinja/arithmetic.h"
#include "engine/tokenizer/jinja/budget.h"
#include "engine/tokenizer/jinja/builtins.h"
#include "engine/tokenizer/jinja/lexer.h"
#include "kvcache/base/check.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine::jinja {
namespace {

using Result = absl::StatusOr<Value>;
using EKind = Expression::Kind;
using SKind = Statement::Kind;
using Scope = std::map<std::string, Value>;

// How a statement ended.
enum class Flow { kNext, kBreak, kContinue };

std::shared_ptr<const Text> Key(std::string_view name) { return std::make_shared<const Text>(std::string(name), true); }

// Puts the line before a message that lacks one.
absl::Status Locate(const absl::Status& status, int line) {
  const std::string message(status.message());
  return message.rfind("line ", 0) == 0 ? status : ErrorAt(status.code(), line, message);
}

// The template's own words of `text`: what came from a client is left out.
std::string TrustedWords(const Text& text) {
  std::string words;
  size_t begin = 0;
  for (const Text::Run& run : text.runs()) {
    words += run.trusted ? text.bytes().substr(begin, run.end - begin) : "...";
    begin = run.end;
  }
  return words;
}

class Interpreter {
 public:
  explicit Interpreter(const Scope& variables) : scopes_{variables, {}} {}

  absl::StatusOr<Text> Run(const Block& block) {
    Text out;
    NIBBLE_RETURN_IF_ERROR(Execute(block, out).status());
    return out;
  }

 private:
  // --- names ---

  Value Find(const std::string& name) const {
    for (auto scope = scopes_.rbegin(); scope != scopes_.rend(); ++scope) {
      if (const auto found = scope->find(name); found != scope->end()) return found->second;
    }
    return Value();
  }

  void Set(const std::string& name, Value value) { scopes_.back()[name] = std::move(value); }

  // --- statements ---

  absl::StatusOr<Flow> Execute(const Block& block, Text& out) {
    if (depth_ >= kMaxEvaluationDepth) return absl::ResourceExhaustedError("the template recurses too deep");
    ++depth_;
    Flow flow = Flow::kNext;
    absl::Status status;
    for (const Statement& statement : block) {
      absl::StatusOr<Flow> result = ExecuteOne(statement, out);
      if (!result.ok()) status = Locate(result.status(), statement.line);
      if (!status.ok() || *result != Flow::kNext) {
        if (status.ok()) flow = *result;
        break;
      }
    }
    --depth_;
    if (!status.ok()) return status;
    return flow;
  }

  absl::StatusOr<Flow> ExecuteOne(const Statement& statement, Text& out) {
    NIBBLE_RETURN_IF_ERROR(budget_.Step());
    switch (statement.kind) {
      case SKind::kText:
        return Print(statement.text, out);
      case SKind::kPrint:
        return ExecutePrint(statement, out);
      case SKind::kIf:
        return ExecuteIf(statement, out);
      case SKind::kFor:
        return ExecuteFor(statement, out);
      case SKind::kSet:
        return ExecuteSet(statement);
      case SKind::kSetBlock:
        return ExecuteSetBlock(statement);
      case SKind::kMacro:
        Set(statement.macro->name, Value(static_cast<const Macro*>(statement.macro.get())));
        return Flow::kNext;
      case SKind::kBreak:
        return Flow::kBreak;
      case SKind::kContinue:
        return Flow::kContinue;
    }
    NIBBLE_CHECK(false);
  }

  absl::StatusOr<Flow> Print(const Text& text, Text& out) {
    NIBBLE_RETURN_IF_ERROR(budget_.Charge(text.size()));
    out.Append(text);
    return Flow::kNext;
  }

  absl::StatusOr<Flow> ExecutePrint(const Statement& statement, Text& out) {
    NIBBLE_ASSIGN_OR_RETURN(const Value value, Evaluate(*statement.expression));
    NIBBLE_ASSIGN_OR_RETURN(const Text text, TextOf(value));
    return Print(text, out);
  }

  // A list prints longer than it weighs, its numbers above all.
  absl::StatusOr<Text> TextOf(const Value& value) {
    constexpr size_t kLongestNumber = 32;
    NIBBLE_RETURN_IF_ERROR(budget_.Charge(value.text() != nullptr ? value.weight() : value.weight() * kLongestNumber));
    return value.ToText();
  }

  absl::StatusOr<Flow> ExecuteIf(const Statement& statement, Text& out) {
    for (const Branch& branch : statement.branches) {
      if (branch.condition != nullptr) {
        NIBBLE_ASSIGN_OR_RETURN(const Value condition, Evaluate(*branch.condition));
        if (!condition.Truth()) continue;
      }
      return Execute(branch.body, out);
    }
    return Flow::kNext;
  }

  absl::Status Assign(const std::vector<std::string>& targets, const Value& value) {
    if (targets.size() == 1) {
      Set(targets[0], value);
      return absl::OkStatus();
    }
    NIBBLE_ASSIGN_OR_RETURN(const std::vector<Value> parts, Elements(value, budget_));
    if (parts.size() != targets.size()) return absl::InvalidArgumentError("the number of values does not match");
    for (size_t i = 0; i < parts.size(); ++i) Set(targets[i], parts[i]);
    return absl::OkStatus();
  }

  // The elements to loop over: those that the loop's own condition lets pass.
  absl::StatusOr<std::vector<Value>> LoopElements(const Statement& statement) {
    NIBBLE_ASSIGN_OR_RETURN(const Value iterated, Evaluate(*statement.expression));
    NIBBLE_ASSIGN_OR_RETURN(std::vector<Value> elements, Elements(iterated, budget_));
    if (statement.condition == nullptr) return elements;
    std::vector<Value> kept;
    for (Value& element : elements) {
      scopes_.emplace_back();
      absl::Status status = Assign(statement.targets, element);
      const Result condition = status.ok() ? Evaluate(*statement.condition) : Result(status);
      scopes_.pop_back();
      NIBBLE_RETURN_IF_ERROR(condition.status());
      if (condition->Truth()) kept.push_back(std::move(element));
    }
    return kept;
  }

  static constexpr size_t kLoopVariableBytes = 1024;  // with what making it costs beside memory

  static Value LoopVariable(const std::vector<Value>& elements, size_t i) {
    const auto integer = [](size_t value) { return Value(static_cast<int64_t>(value)); };
    const size_t count = elements.size();
    DictItems items = {{Key("index"), integer(i + 1)},
                       {Key("index0"), integer(i)},
                       {Key("first"), Value(i == 0)},
                       {Key("last"), Value(i + 1 == count)},
                       {Key("length"), integer(count)},
                       {Key("revindex"), integer(count - i)},
                       {Key("revindex0"), integer(count - i - 1)}};
    if (i > 0) items.emplace_back(Key("previtem"), elements[i - 1]);
    if (i + 1 < count) items.emplace_back(Key("nextitem"), elements[i + 1]);
    return Value::MakeDict(std::move(items));
  }

  absl::StatusOr<Flow> ExecuteFor(const Statement& statement, Text& out) {
    NIBBLE_ASSIGN_OR_RETURN(const std::vector<Value> elements, LoopElements(statement));
    if (elements.empty()) return Execute(statement.otherwise, out);
    for (size_t i = 0; i < elements.size(); ++i) {
      NIBBLE_RETURN_IF_ERROR(budget_.Charge(kLoopVariableBytes));
      scopes_.emplace_back();
      Set("loop", LoopVariable(elements, i));
      const absl::Status status = Assign(statement.targets, elements[i]);
      const absl::StatusOr<Flow> flow = status.ok() ? Execute(statement.body, out) : absl::StatusOr<Flow>(status);
      scopes_.pop_back();
      NIBBLE_RETURN_IF_ERROR(flow.status());
      if (*flow == Flow::kBreak) break;
    }
    return Flow::kNext;
  }

  absl::StatusOr<Flow> ExecuteSet(const Statement& statement) {
    NIBBLE_ASSIGN_OR_RETURN(const Value value, Evaluate(*statement.expression));
    if (statement.member.empty()) {
      NIBBLE_RETURN_IF_ERROR(Assign(statement.targets, value));
      return Flow::kNext;
    }
    Namespace* space = Find(statement.targets[0]).space();
    if (space == nullptr) return absl::InvalidArgumentError("only a namespace's attributes can be set");
    space->attributes[statement.member] = value;
    return Flow::kNext;
  }

  absl::StatusOr<Flow> ExecuteSetBlock(const Statement& statement) {
    Text text;
    NIBBLE_ASSIGN_OR_RETURN(const Flow flow, Execute(statement.body, text));
    Set(statement.targets[0], Value(std::move(text)));
    return flow;
  }

  // --- expressions ---

  Result Evaluate(const Expression& node) {
    NIBBLE_RETURN_IF_ERROR(budget_.Step());
    if (depth_ >= kMaxEvaluationDepth) return absl::ResourceExhaustedError("the template recurses too deep");
    ++depth_;
    Result result = EvaluateNode(node);
    --depth_;
    if (!result.ok()) return Locate(result.status(), node.line);
    return result;
  }

  Result EvaluateNode(const Expression& node) {
    switch (node.kind) {
      case EKind::kLiteral:
        return node.value;
      case EKind::kName:
        return Find(node.name);
      case EKind::kList:
        return EvaluateList(node);
      case EKind::kDict:
        return EvaluateDict(node);
      case EKind::kAttribute:
        return EvaluateAttribute(node);
      case EKind::kIndex:
        return EvaluateIndex(node);
      case EKind::kSlice:
        return EvaluateSlice(node);
      case EKind::kCall:
        return EvaluateCall(node);
      case EKind::kMethod:
        return EvaluateBuiltin(FindMethod(node.name), node);
      case EKind::kFilter:
        return EvaluateBuiltin(FindFilter(node.name), node);
      case EKind::kTest:
        return EvaluateBuiltin(FindTest(node.name), node);
      case EKind::kUnary:
        return EvaluateUnary(node);
      case EKind::kBinary:
        return EvaluateBinary(node);
      case EKind::kConcat:
        return EvaluateConcat(node);
      case EKind::kAnd:
      case EKind::kOr:
        return EvaluateLogic(node);
      case EKind::kCompare:
        return EvaluateCompare(node);
      case EKind::kIf:
        return EvaluateIf(node);
    }
    NIBBLE_CHECK(false);
  }

  // Operands from `first` on.
  absl::StatusOr<std::vector<Value>> EvaluateAll(const Expression& node, size_t first) {
    std::vector<Value> values;
    for (size_t i = first; i < node.operands.size(); ++i) {
      NIBBLE_ASSIGN_OR_RETURN(Value value, Evaluate(*node.operands[i]));
      values.push_back(std::move(value));
    }
    return values;
  }

  Result EvaluateList(const Expression& node) {
    NIBBLE_ASSIGN_OR_RETURN(std::vector<Value> items, EvaluateAll(node, 0));
    return MakeCheckedList(std::move(items), budget_);
  }

  Result EvaluateDict(const Expression& node) {
    DictItems items;
    for (size_t i = 0; i < node.operands.size(); i += 2) {
      NIBBLE_ASSIGN_OR_RETURN(const Value key, Evaluate(*node.operands[i]));
      NIBBLE_ASSIGN_OR_RETURN(Value value, Evaluate(*node.operands[i + 1]));
      if (key.text() == nullptr) return absl::InvalidArgumentError("the keys of a dictionary must be strings");
      items.emplace_back(std::make_shared<const Text>(*key.text()), std::move(value));
    }
    return MakeCheckedDict(std::move(items), budget_);
  }

  Result EvaluateAttribute(const Expression& node) {
    NIBBLE_ASSIGN_OR_RETURN(const Value object, Evaluate(*node.operands[0]));
    return Attribute(object, node.name);
  }

  Result EvaluateIndex(const Expression& node) {
    NIBBLE_ASSIGN_OR_RETURN(const Value object, Evaluate(*node.operands[0]));
    NIBBLE_ASSIGN_OR_RETURN(const Value index, Evaluate(*node.operands[1]));
    return Index(object, index, budget_);
  }

  Result EvaluateSlice(const Expression& node) {
    NIBBLE_ASSIGN_OR_RETURN(const Value object, Evaluate(*node.operands[0]));
    std::array<Value, 3> bounds;
    for (size_t i = 0; i < bounds.size(); ++i) {
      if (node.operands[i + 1] == nullptr) continue;
      NIBBLE_ASSIGN_OR_RETURN(bounds[i], Evaluate(*node.operands[i + 1]));
    }
    return Slice(object, bounds[0], bounds[1], bounds[2], budget_);
  }

  absl::StatusOr<Arguments> EvaluateArguments(const Expression& node) {
    Arguments arguments;
    NIBBLE_ASSIGN_OR_RETURN(arguments.positional, EvaluateAll(node, 1));
    for (const auto& [name, operand] : node.named) {
      NIBBLE_ASSIGN_OR_RETURN(Value value, Evaluate(*operand));
      arguments.named.emplace_back(name, std::move(value));
    }
    return arguments;
  }

  Result EvaluateBuiltin(Builtin builtin, const Expression& node) {
    NIBBLE_ASSIGN_OR_RETURN(Value input, Evaluate(*node.operands[0]));
    NIBBLE_ASSIGN_OR_RETURN(Arguments arguments, EvaluateArguments(node));
    arguments.input = std::move(input);
    return builtin(arguments, budget_);
  }

  Result EvaluateUnary(const Expression& node) {
    NIBBLE_ASSIGN_OR_RETURN(const Value operand, Evaluate(*node.operands[0]));
    if (node.name == "not") return Value(!operand.Truth());
    return Signed(node.name, operand);
  }

  Result EvaluateBinary(const Expression& node) {
    NIBBLE_ASSIGN_OR_RETURN(const Value left, Evaluate(*node.operands[0]));
    NIBBLE_ASSIGN_OR_RETURN(const Value right, Evaluate(*node.operands[1]));
    return Binary(node.name, left, right, budget_);
  }

  Result EvaluateConcat(const Expression& node) {
    Text result;
    for (const ExpressionPtr& operand : node.operands) {
      NIBBLE_ASSIGN_OR_RETURN(const Value value, Evaluate(*operand));
      NIBBLE_ASSIGN_OR_RETURN(const Text text, TextOf(value));
      result.Append(text);
    }
    return Value(std::move(result));
  }

  // The value that decides, as in Python.
  Result EvaluateLogic(const Expression& node) {
    NIBBLE_ASSIGN_OR_RETURN(Value left, Evaluate(*node.operands[0]));
    if (left.Truth() == (node.kind == EKind::kOr)) return left;
    return Evaluate(*node.operands[1]);
  }

  Result EvaluateCompare(const Expression& node) {
    NIBBLE_ASSIGN_OR_RETURN(Value left, Evaluate(*node.operands[0]));
    for (size_t i = 0; i < node.ops.size(); ++i) {
      NIBBLE_ASSIGN_OR_RETURN(Value right, Evaluate(*node.operands[i + 1]));
      NIBBLE_ASSIGN_OR_RETURN(const Value holds, Compare(node.ops[i], left, right, budget_));
      if (!holds.Truth()) return Value(false);
      left = std::move(right);
    }
    return Value(true);
  }

  Result EvaluateIf(const Expression& node) {
    NIBBLE_ASSIGN_OR_RETURN(const Value condition, Evaluate(*node.operands[0]));
    if (condition.Truth()) return Evaluate(*node.operands[1]);
    return node.operands[2] == nullptr ? Value() : Evaluate(*node.operands[2]);
  }

  // --- calls ---

  Result EvaluateCall(const Expression& node) {
    NIBBLE_ASSIGN_OR_RETURN(const Value callee, Evaluate(*node.operands[0]));
    NIBBLE_ASSIGN_OR_RETURN(const Arguments arguments, EvaluateArguments(node));
    if (callee.macro() != nullptr) return CallMacro(*callee.macro(), arguments);
    const Expression& name = *node.operands[0];
    if (name.kind != EKind::kName || !callee.is_undefined()) {
      return absl::InvalidArgumentError(
          absl::StrCat("a value of type ", std::string(callee.TypeName()), " cannot be called"));
    }
    if (name.name == "namespace") return MakeNamespace(arguments);
    if (name.name == "dict") return MakeDictionary(arguments);
    if (name.name == "range") return MakeRange(arguments);
    if (name.name == "raise_exception") return Raise(arguments);
    return absl::UnimplementedError(absl::StrCat("the function \"", name.name, "\" is not supported"));
  }

  // A macro sees its arguments and the outermost names, not those of its caller.
  Result CallMacro(const Macro& macro, const Arguments& arguments) {
    std::deque<Scope> inner = {scopes_[0], scopes_[1], {}};
    std::swap(scopes_, inner);
    absl::Status status = BindParameters(macro, arguments);
    Text out;
    if (status.ok()) status = Execute(macro.body, out).status();
    std::swap(scopes_, inner);
    NIBBLE_RETURN_IF_ERROR(status);
    return Value(std::move(out));
  }

  absl::Status BindParameters(const Macro& macro, const Arguments& arguments) {
    if (arguments.positional.size() > macro.parameters.size()) {
      return absl::InvalidArgumentError(absl::StrCat("too many arguments for the macro \"", macro.name, "\""));
    }
    for (size_t i = 0; i < macro.parameters.size(); ++i) {
      const auto& [name, otherwise] = macro.parameters[i];
      Value value;
      if (const Value* given = arguments.Find(i, name); given != nullptr) {
        value = *given;
      } else if (otherwise != nullptr) {
        NIBBLE_ASSIGN_OR_RETURN(value, Evaluate(*otherwise));
      }
      Set(name, std::move(value));
    }
    return absl::OkStatus();
  }

  Result MakeNamespace(const Arguments& arguments) {
    NIBBLE_RETURN_IF_ERROR(budget_.Charge(sizeof(Namespace)));
    Namespace& space = spaces_.emplace_back();
    for (const auto& [name, value] : arguments.named) space.attributes[name] = value;
    return Value(&space);
  }

  Result MakeDictionary(const Arguments& arguments) {
    DictItems items;
    for (const auto& [name, value] : arguments.named) items.emplace_back(Key(name), value);
    return MakeCheckedDict(std::move(items), budget_);
  }

  Result MakeRange(const Arguments& arguments) {
    const std::vector<Value>& bounds = arguments.positional;
    if (bounds.empty() || bounds.size() > 3) return absl::InvalidArgumentError("range takes one to three integers");
    for (const Value& bound : bounds) {
      if (!bound.is_integer()) return absl::InvalidArgumentError("range takes one to three integers");
    }
    const int64_t start = bounds.size() > 1 ? bounds[0].integer() : 0;
    const int64_t stop = bounds[bounds.size() > 1 ? 1 : 0].integer();
    const int64_t step = bounds.size() > 2 ? bounds[2].integer() : 1;
    if (step == 0) return absl::InvalidArgumentError("the step of a range is zero");
    constexpr size_t kMaxRange = 100'000;
    std::vector<Value> items;
    for (__int128 i = start; step > 0 ? i < stop : i > stop; i += step) {
      if (items.size() == kMaxRange) return absl::ResourceExhaustedError("a range is too long");
      items.emplace_back(static_cast<int64_t>(i));
    }
    return MakeCheckedList(std::move(items), budget_);
  }

  // The template's own refusal of these messages.
  Result Raise(const Arguments& arguments) {
    NIBBLE_ASSIGN_OR_RETURN(const Text* message, arguments.FindText(0, "message"));
    return absl::InvalidArgumentError(TrustedWords(*message).substr(0, 500));
  }

  // Outermost first: what was passed in, the template's own names, then one for each loop or macro entered.
  std::deque<Scope> scopes_;
  std::deque<Namespace> spaces_;  // owned here: a namespace may hold itself
  Budget budget_;
  int depth_ = 0;
};

}  // namespace

absl::StatusOr<Text> Render(const Block& block, const std::map<std::string, Value>& variables) {
  return Interpreter(variables).Run(block);
}

}  // namespace nibble::engine::jinja
