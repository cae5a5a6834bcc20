#include "engine/tokenizer/jinja/parser.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/tokenizer/jinja/builtins.h"
#include "engine/tokenizer/jinja/lexer.h"
#include "kvcache/base/status_macros.h"

namespace nibble::engine::jinja {
namespace {

using EKind = Expression::Kind;
using SKind = Statement::Kind;
using Kind = Token::Kind;

// Counts how deep the parser is in itself.
class Nested {
 public:
  explicit Nested(int& depth) : depth_(depth) { ++depth_; }
  ~Nested() { --depth_; }
  Nested(const Nested&) = delete;
  Nested& operator=(const Nested&) = delete;

 private:
  int& depth_;
};

class Parser {
 public:
  explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}

  absl::StatusOr<Block> Run() { return ParseBlock({}); }

 private:
  // --- tokens ---

  const Token& Peek() const { return tokens_[at_]; }
  const Token& PeekAfter() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  const Token& Next() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }
  bool IsName(std::string_view name) const { return Peek().kind == Kind::kName && Peek().text == name; }
  bool IsOperator(std::string_view op) const { return Peek().kind == Kind::kOperator && Peek().text == op; }

  bool SkipName(std::string_view name) {
    if (!IsName(name)) return false;
    Next();
    return true;
  }

  bool SkipOperator(std::string_view op) {
    if (!IsOperator(op)) return false;
    Next();
    return true;
  }

  absl::Status Error(std::string_view message, absl::StatusCode code = absl::StatusCode::kInvalidArgument) const {
    return ErrorAt(code, Peek().line, message);
  }

  absl::Status Unsupported(std::string_view what) const {
    return Error(absl::StrCat(std::string(what), " is not supported"), absl::StatusCode::kUnimplemented);
  }

  absl::Status ExpectOperator(std::string_view op) {
    return SkipOperator(op) ? absl::OkStatus() : Error(absl::StrCat("expected '", std::string(op), "'"));
  }

  absl::Status ExpectBlockEnd() {
    if (Peek().kind != Kind::kBlockEnd) return Error("expected the end of the tag");
    Next();
    return absl::OkStatus();
  }

  absl::StatusOr<std::string> ExpectName() {
    if (Peek().kind != Kind::kName) return Error("expected a name");
    return Next().text;
  }

  // --- statements ---

  // Whether a tag that begins here has one of `names`, which end the block being read.
  bool AtTag(const std::vector<std::string_view>& names) const {
    return Peek().kind == Kind::kBlockBegin && PeekAfter().kind == Kind::kName &&
           std::find(names.begin(), names.end(), PeekAfter().text) != names.end();
  }

  // Statements up to a tag of one of `ends`, which is not consumed, or up to the end of the source.
  absl::StatusOr<Block> ParseBlock(const std::vector<std::string_view>& ends) {
    const Nested nested(depth_);
    if (depth_ > kMaxNesting) return Error("nested too deep");
    Block block;
    while (Peek().kind != Kind::kEnd && !AtTag(ends)) {
      NIBBLE_RETURN_IF_ERROR(ParseStatement(block));
    }
    if (!ends.empty() && Peek().kind == Kind::kEnd)
      return Error(absl::StrCat("{% ", Name(ends.back()), " %} is missing"));
    return block;
  }

  static std::string Name(std::string_view name) { return std::string(name); }

  Statement Make(SKind kind) const {
    Statement statement;
    statement.kind = kind;
    statement.line = Peek().line;
    return statement;
  }

  absl::Status ParseStatement(Block& block) {
    if (Peek().kind == Kind::kText) {
      Statement statement = Make(SKind::kText);
      statement.text = Text(Next().text, true);
      block.push_back(std::move(statement));
      return absl::OkStatus();
    }
    if (Peek().kind == Kind::kPrintBegin) return ParsePrint(block);
    Next();  // {%
    return ParseTag(block);
  }

  absl::Status ParsePrint(Block& block) {
    Next();
    Statement statement = Make(SKind::kPrint);
    NIBBLE_ASSIGN_OR_RETURN(statement.expression, ParseExpression());
    if (Peek().kind != Kind::kPrintEnd) return Error("expected '}}'");
    Next();
    block.push_back(std::move(statement));
    return absl::OkStatus();
  }

  absl::Status ParseTag(Block& block) {
    using Method = absl::Status (Parser::*)(Block&);
    static constexpr std::array<std::pair<std::string_view, Method>, 8> kTags = {
        {{"if", &Parser::ParseIf},
         {"for", &Parser::ParseFor},
         {"set", &Parser::ParseSet},
         {"macro", &Parser::ParseMacro},
         {"break", &Parser::ParseBreak},
         {"continue", &Parser::ParseContinue},
         // Marks what the model wrote, for training; says nothing about the text.
         {"generation", &Parser::ParseGeneration},
         {"endgeneration", &Parser::ParseGeneration}}};
    NIBBLE_ASSIGN_OR_RETURN(const std::string name, ExpectName());
    for (const auto& [tag, method] : kTags) {
      if (tag == name) return (this->*method)(block);
    }
    const bool closes = name.substr(0, 3) == "end" || name == "else" || name == "elif";
    return closes ? Error(absl::StrCat("unexpected {% ", name, " %}")) : Unsupported(absl::StrCat("{% ", name, " %}"));
  }

  absl::Status ParseGeneration(Block&) { return ExpectBlockEnd(); }

  // Reads "{% name %}", which must stand here.
  absl::Status ExpectTag(std::string_view name) {
    Next();
    if (!SkipName(name)) return Error(absl::StrCat("expected {% ", Name(name), " %}"));
    return ExpectBlockEnd();
  }

  absl::Status ParseIf(Block& block) {
    Statement statement = Make(SKind::kIf);
    do {
      Branch branch;
      NIBBLE_ASSIGN_OR_RETURN(branch.condition, ParseExpression());
      NIBBLE_RETURN_IF_ERROR(ExpectBlockEnd());
      NIBBLE_ASSIGN_OR_RETURN(branch.body, ParseBlock({"elif", "else", "endif"}));
      statement.branches.push_back(std::move(branch));
    } while (PeekAfter().text == "elif" && (Next(), SkipName("elif")));
    if (PeekAfter().text == "else") {
      NIBBLE_RETURN_IF_ERROR(ExpectTag("else"));
      NIBBLE_ASSIGN_OR_RETURN(Block body, ParseBlock({"endif"}));
      statement.branches.push_back({nullptr, std::move(body)});
    }
    NIBBLE_RETURN_IF_ERROR(ExpectTag("endif"));
    block.push_back(std::move(statement));
    return absl::OkStatus();
  }

  absl::StatusOr<std::vector<std::string>> ParseTargets() {
    std::vector<std::string> targets;
    const bool bracketed = SkipOperator("(");
    do {
      NIBBLE_ASSIGN_OR_RETURN(std::string target, ExpectName());
      targets.push_back(std::move(target));
    } while (SkipOperator(","));
    if (bracketed) NIBBLE_RETURN_IF_ERROR(ExpectOperator(")"));
    return targets;
  }

  absl::Status ParseFor(Block& block) {
    Statement statement = Make(SKind::kFor);
    NIBBLE_ASSIGN_OR_RETURN(statement.targets, ParseTargets());
    if (!SkipName("in")) return Error("expected 'in'");
    NIBBLE_ASSIGN_OR_RETURN(statement.expression, ParseOr());
    if (SkipName("if")) {
      NIBBLE_ASSIGN_OR_RETURN(statement.condition, ParseExpression());
    }
    if (IsName("recursive")) return Unsupported("a recursive loop");
    NIBBLE_RETURN_IF_ERROR(ExpectBlockEnd());
    ++loops_;
    NIBBLE_ASSIGN_OR_RETURN(statement.body, ParseBlock({"else", "endfor"}));
    --loops_;
    if (PeekAfter().text == "else") {
      NIBBLE_RETURN_IF_ERROR(ExpectTag("else"));
      NIBBLE_ASSIGN_OR_RETURN(statement.otherwise, ParseBlock({"endfor"}));
    }
    NIBBLE_RETURN_IF_ERROR(ExpectTag("endfor"));
    block.push_back(std::move(statement));
    return absl::OkStatus();
  }

  absl::Status ParseSet(Block& block) {
    Statement statement = Make(SKind::kSet);
    NIBBLE_ASSIGN_OR_RETURN(statement.targets, ParseTargets());
    if (SkipOperator(".")) {
      NIBBLE_ASSIGN_OR_RETURN(statement.member, ExpectName());
    }
    if (SkipOperator("=")) {
      NIBBLE_ASSIGN_OR_RETURN(statement.expression, ParseTuple());
      NIBBLE_RETURN_IF_ERROR(ExpectBlockEnd());
    } else {
      if (IsOperator("|")) return Unsupported("a filter on {% set %}");
      if (statement.targets.size() != 1 || !statement.member.empty()) return Error("expected '='");
      statement.kind = SKind::kSetBlock;
      NIBBLE_RETURN_IF_ERROR(ExpectBlockEnd());
      NIBBLE_ASSIGN_OR_RETURN(statement.body, ParseBlock({"endset"}));
      NIBBLE_RETURN_IF_ERROR(ExpectTag("endset"));
    }
    block.push_back(std::move(statement));
    return absl::OkStatus();
  }

  absl::Status ParseMacro(Block& block) {
    Statement statement = Make(SKind::kMacro);
    statement.macro = std::make_unique<Macro>();
    NIBBLE_ASSIGN_OR_RETURN(statement.macro->name, ExpectName());
    NIBBLE_RETURN_IF_ERROR(ExpectOperator("("));
    while (!SkipOperator(")")) {
      NIBBLE_ASSIGN_OR_RETURN(std::string name, ExpectName());
      ExpressionPtr value;
      if (SkipOperator("=")) {
        NIBBLE_ASSIGN_OR_RETURN(value, ParseExpression());
      }
      statement.macro->parameters.emplace_back(std::move(name), std::move(value));
      if (!IsOperator(")")) NIBBLE_RETURN_IF_ERROR(ExpectOperator(","));
    }
    NIBBLE_RETURN_IF_ERROR(ExpectBlockEnd());
    const int outer_loops = std::exchange(loops_, 0);
    NIBBLE_ASSIGN_OR_RETURN(statement.macro->body, ParseBlock({"endmacro"}));
    loops_ = outer_loops;
    NIBBLE_RETURN_IF_ERROR(ExpectTag("endmacro"));
    block.push_back(std::move(statement));
    return absl::OkStatus();
  }

  absl::Status ParseBreak(Block& block) { return ParseJump(SKind::kBreak, block); }
  absl::Status ParseContinue(Block& block) { return ParseJump(SKind::kContinue, block); }

  absl::Status ParseJump(SKind kind, Block& block) {
    if (loops_ == 0) return Error("break or continue outside of a loop");
    block.push_back(Make(kind));
    return ExpectBlockEnd();
  }

  // --- expressions, from the loosest to the tightest ---

  absl::StatusOr<ExpressionPtr> Finish(ExpressionPtr node) const {
    for (const ExpressionPtr& operand : node->operands) {
      if (operand != nullptr) node->depth = std::max(node->depth, operand->depth + 1);
    }
    for (const auto& [name, operand] : node->named) node->depth = std::max(node->depth, operand->depth + 1);
    if (node->depth > kMaxNesting) return Error("expression is nested too deep");
    return node;
  }

  ExpressionPtr Make(EKind kind, std::string name = "") const {
    auto node = std::make_unique<Expression>();
    node->kind = kind;
    node->line = Peek().line;
    node->name = std::move(name);
    return node;
  }

  template <typename... Operands>
  absl::StatusOr<ExpressionPtr> MakeNode(EKind kind, std::string name, Operands... operands) const {
    ExpressionPtr node = Make(kind, std::move(name));
    (node->operands.push_back(std::move(operands)), ...);
    return Finish(std::move(node));
  }

  // A value, or several with commas between: a list.
  absl::StatusOr<ExpressionPtr> ParseTuple() {
    NIBBLE_ASSIGN_OR_RETURN(ExpressionPtr first, ParseExpression());
    if (!IsOperator(",")) return first;
    ExpressionPtr list = Make(EKind::kList);
    list->operands.push_back(std::move(first));
    while (SkipOperator(",")) {
      if (IsOperator(")") || Peek().kind == Kind::kBlockEnd) break;
      NIBBLE_ASSIGN_OR_RETURN(ExpressionPtr next, ParseExpression());
      list->operands.push_back(std::move(next));
    }
    return Finish(std::move(list));
  }

  absl::StatusOr<ExpressionPtr> ParseExpression() {
    const Nested nested(depth_);
    if (depth_ > kMaxNesting) return Error("nested too deep");
    NIBBLE_ASSIGN_OR_RETURN(ExpressionPtr value, ParseOr());
    while (SkipName("if")) {
      NIBBLE_ASSIGN_OR_RETURN(ExpressionPtr condition, ParseOr());
      ExpressionPtr otherwise;
      if (SkipName("else")) {
        NIBBLE_ASSIGN_OR_RETURN(otherwise, ParseExpression());
      }
      NIBBLE_ASSIGN_OR_RETURN(value,
                              MakeNode(EKind::kIf, "", std::move(condition), std::move(value), std::move(otherwise)));
    }
    return value;
  }

  absl::StatusOr<ExpressionPtr> ParseOr() {
    NIBBLE_ASSIGN_OR_RETURN(ExpressionPtr left, ParseAnd());
    while (SkipName("or")) {
      NIBBLE_ASSIGN_OR_RETURN(ExpressionPtr right, ParseAnd());
      NIBBLE_ASSIGN_OR_RETURN(left, MakeNode(EKind::kOr, "", std::move(left), std::move(right)));
    }
    return left;
  }

  absl::StatusOr<ExpressionPtr> ParseAnd() {
    NIBBLE_ASSIGN_OR_RETURN(ExpressionPtr left, ParseNot());
    while (SkipName("and")) {
      NIBBLE_ASSIGN_OR_RETURN(ExpressionPtr right, ParseNot());
      NIBBLE_ASSIGN_OR_RETURN(left, MakeNode(EKind::kAnd, "", std::move(left), std::move(right)));
    }
    return left;
  }

  absl::StatusOr<ExpressionPtr> ParseNot() {
    if (!SkipName("not")) return ParseCompare();
    const Nested nested(depth_);
    if (depth_ > kMaxNesting) return Error("nested too deep");
    NIBBLE_ASSIGN_OR_RETURN(ExpressionPtr operand, ParseNot());
    return MakeNode(EKind::kUnary, "not", std::move(operand));
  }

  // The comparison that stands here, consumed, or "".
  std::string SkipComparison() {
    for (std::string_view op : {"==", "!=", "<=", ">=", "<", ">"}) {
      if (SkipOperator(op)) return Name(op);
    }
    if (SkipName("in")) return "in";
    if (!IsName("not") || PeekAfter().kind != Kind::kName || PeekAfter().text != "in") return "";
    Next();
    Next();
    return "not in";
  }

  absl::StatusOr<ExpressionPtr> ParseCompare() {
    NIBBLE_ASSIGN_OR_RETURN(ExpressionPtr first, ParseSum());
    std::string op = SkipComparison();
    if (op.empty()) return first;
    ExpressionPtr node = Make(EKind::kCompare);
    node->operands.push_back(std::move(first));
    for (; !op.empty(); op = SkipComparison()) {
      node->ops.push_back(op);
      NIBBLE_ASSIGN_OR_RETURN(ExpressionPtr next, ParseSum());
      node->operands.push_back(std::move(next));
    }
    return Finish(std::move(node));
  }

  absl::StatusOr<ExpressionPtr> ParseSum() {
    NIBBLE_ASSIGN_OR_RETURN(ExpressionPtr left, ParseConcat());
    while (IsOperator("+") || IsOperator("-")) {
      const std::string op = Next().text;
      NIBBLE_ASSIGN_OR_RETURN(ExpressionPtr right, ParseConcat());
      NIBBLE_ASSIGN_OR_RETURN(left, MakeNode(EKind::kBinary, op, std::move(left), std::move(right)));
    }
    return left;
  }

  absl::StatusOr<ExpressionPtr> ParseConcat() {
    NIBBLE_ASSIGN_OR_RETURN(ExpressionPtr first, ParseProduct());
    if (!IsOperator("~")) return first;
    ExpressionPtr node = Make(EKind::kConcat);
    node->operands.push_back(std::move(first));
    while (SkipOperator("~")) {
      NIBBLE_ASSIGN_OR_RETURN(ExpressionPtr next, ParseProduct());
      node->operands.push_back(std::move(next));
    }
    return Finish(std::move(node));
  }

  absl::StatusOr<ExpressionPtr> ParseProduct() {
    NIBBLE_ASSIGN_OR_RETURN(ExpressionPtr left, ParseUnary());
    while (IsOperator("*") || IsOperator("/") || IsOperator("//") || IsOperator("%")) {
      const std::string op = Next().text;
      NIBBLE_ASSIGN_OR_RETURN(ExpressionPtr right, ParseUnary());
      NIBBLE_ASSIGN_OR_RETURN(left, MakeNode(EKind::kBinary, op, std::move(left), std::move(right)));
    }
    if (IsOperator("**")) return Unsupported("the operator '**'");
    return left;
  }

  absl::StatusOr<ExpressionPtr> ParseUnary() {
    NIBBLE_ASSIGN_OR_RETURN(ExpressionPtr value, ParseSigned());
    while (true) {
      if (SkipOperator("|")) {
        NIBBLE_ASSIGN_OR_RETURN(value, ParseFilter(std::move(value)));
      } else if (SkipName("is")) {
        NIBBLE_ASSIGN_OR_RETURN(value, ParseTest(std::move(value)));
      } else {
        return value;
      }
    }
  }

  // A sign binds tighter than a filter.
  absl::StatusOr<ExpressionPtr> ParseSigned() {
    const Nested nested(depth_);
    if (depth_ > kMaxNesting) return Error("nested too deep");
    if (IsOperator("-") || IsOperator("+")) {
      const std::string sign = Next().text;
      NIBBLE_ASSIGN_OR_RETURN(ExpressionPtr operand, ParseSigned());
      return MakeNode(EKind::kUnary, sign, std::move(operand));
    }
    NIBBLE_ASSIGN_OR_RETURN(ExpressionPtr value, ParsePrimary());
    return ParsePostfix(std::move(value));
  }

  absl::StatusOr<ExpressionPtr> ParseFilter(ExpressionPtr input) {
    NIBBLE_ASSIGN_OR_RETURN(const std::string name, ExpectName());
    if (FindFilter(name) == nullptr) return Unsupported(absl::StrCat("the filter \"", name, "\""));
    ExpressionPtr node = Make(EKind::kFilter, name);
    node->operands.push_back(std::move(input));
    if (SkipOperator("(")) NIBBLE_RETURN_IF_ERROR(ParseArguments(*node));
    return Finish(std::move(node));
  }

  absl::StatusOr<ExpressionPtr> ParseTest(ExpressionPtr input) {
    const bool negated = SkipName("not");
    NIBBLE_ASSIGN_OR_RETURN(const std::string name, ExpectName());
    if (FindTest(name) == nullptr) return Unsupported(absl::StrCat("the test \"", name, "\""));
    ExpressionPtr node = Make(EKind::kTest, name);
    node->operands.push_back(std::move(input));
    if (SkipOperator("(")) {
      NIBBLE_RETURN_IF_ERROR(ParseArguments(*node));
    } else if (AtTestArgument()) {
      NIBBLE_ASSIGN_OR_RETURN(ExpressionPtr argument, ParseSigned());
      node->operands.push_back(std::move(argument));
    }
    NIBBLE_ASSIGN_OR_RETURN(ExpressionPtr test, Finish(std::move(node)));
    return negated ? MakeNode(EKind::kUnary, "not", std::move(test)) : std::move(test);
  }

  bool AtTestArgument() const {
    static constexpr std::array<std::string_view, 7> kWords = {"else", "or", "and", "if", "is", "in", "not"};
    if (Peek().kind == Kind::kName) return std::find(kWords.begin(), kWords.end(), Peek().text) == kWords.end();
    return Peek().kind == Kind::kString || Peek().kind == Kind::kInteger || Peek().kind == Kind::kFloat ||
           IsOperator("[") || IsOperator("{");
  }

  // What follows "(", up to and with ")".
  absl::Status ParseArguments(Expression& call) {
    while (!SkipOperator(")")) {
      if (IsOperator("*") || IsOperator("**")) return Unsupported("unpacking of arguments");
      const bool named = Peek().kind == Kind::kName && PeekAfter().kind == Kind::kOperator && PeekAfter().text == "=";
      const std::string name = named ? Next().text : "";
      if (named) Next();
      NIBBLE_ASSIGN_OR_RETURN(ExpressionPtr argument, ParseExpression());
      if (named) {
        call.named.emplace_back(name, std::move(argument));
      } else {
        call.operands.push_back(std::move(argument));
      }
      if (!IsOperator(")")) NIBBLE_RETURN_IF_ERROR(ExpectOperator(","));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<ExpressionPtr> ParsePostfix(ExpressionPtr value) {
    while (true) {
      if (SkipOperator(".")) {
        NIBBLE_ASSIGN_OR_RETURN(value, ParseAttribute(std::move(value)));
      } else if (SkipOperator("[")) {
        NIBBLE_ASSIGN_OR_RETURN(value, ParseSubscript(std::move(value)));
      } else if (SkipOperator("(")) {
        ExpressionPtr call = Make(EKind::kCall);
        call->operands.push_back(std::move(value));
        NIBBLE_RETURN_IF_ERROR(ParseArguments(*call));
        NIBBLE_ASSIGN_OR_RETURN(value, Finish(std::move(call)));
      } else {
        return value;
      }
    }
  }

  absl::StatusOr<ExpressionPtr> ParseAttribute(ExpressionPtr object) {
    if (Peek().kind == Kind::kInteger) {
      NIBBLE_ASSIGN_OR_RETURN(ExpressionPtr index, ParsePrimary());
      return MakeNode(EKind::kIndex, "", std::move(object), std::move(index));
    }
    NIBBLE_ASSIGN_OR_RETURN(const std::string name, ExpectName());
    if (!SkipOperator("(")) return MakeNode(EKind::kAttribute, name, std::move(object));
    if (FindMethod(name) == nullptr) return Unsupported(absl::StrCat("the method \"", name, "\""));
    ExpressionPtr call = Make(EKind::kMethod, name);
    call->operands.push_back(std::move(object));
    NIBBLE_RETURN_IF_ERROR(ParseArguments(*call));
    return Finish(std::move(call));
  }

  absl::StatusOr<ExpressionPtr> ParseSubscript(ExpressionPtr object) {
    std::array<ExpressionPtr, 3> bounds;
    size_t colons = 0;
    while (!SkipOperator("]")) {
      if (IsOperator(":") && colons < 2) {
        ++colons;
        Next();
      } else if (bounds[colons] == nullptr) {
        NIBBLE_ASSIGN_OR_RETURN(bounds[colons], ParseExpression());
      } else {
        return Error("expected ']'");
      }
    }
    if (colons > 0) {
      return MakeNode(EKind::kSlice, "", std::move(object), std::move(bounds[0]), std::move(bounds[1]),
                      std::move(bounds[2]));
    }
    if (bounds[0] == nullptr) return Error("expected an index");
    return MakeNode(EKind::kIndex, "", std::move(object), std::move(bounds[0]));
  }

  absl::StatusOr<ExpressionPtr> ParsePrimary() {
    switch (Peek().kind) {
      case Kind::kName:
        return ParseName();
      case Kind::kString:
        return ParseString();
      case Kind::kInteger:
      case Kind::kFloat:
        return ParseNumber();
      default:
        break;
    }
    if (SkipOperator("(")) return ParseBracketed();
    if (SkipOperator("[")) return ParseList();
    if (SkipOperator("{")) return ParseDict();
    return Error("expected a value");
  }

  absl::StatusOr<ExpressionPtr> Literal(Value value) const {
    ExpressionPtr node = Make(EKind::kLiteral);
    node->value = std::move(value);
    return node;
  }

  absl::StatusOr<ExpressionPtr> ParseName() {
    const std::string& name = Next().text;
    if (name == "true" || name == "True") return Literal(true);
    if (name == "false" || name == "False") return Literal(false);
    if (name == "none" || name == "None") return Literal(None());
    return Make(EKind::kName, name);
  }

  absl::StatusOr<ExpressionPtr> ParseString() {
    std::string text;
    while (Peek().kind == Kind::kString) text += Next().text;
    return Literal(Text(std::move(text), true));
  }

  absl::StatusOr<ExpressionPtr> ParseNumber() {
    const Token& token = Next();
    int64_t integer = 0;
    double number = 0;
    if (token.kind == Kind::kInteger && absl::SimpleAtoi(token.text, &integer)) return Literal(integer);
    if (token.kind == Kind::kFloat && absl::SimpleAtod(token.text, &number)) return Literal(number);
    return Error("number is out of range");
  }

  absl::StatusOr<ExpressionPtr> ParseBracketed() {
    if (SkipOperator(")")) return Make(EKind::kList);
    NIBBLE_ASSIGN_OR_RETURN(ExpressionPtr value, ParseTuple());
    NIBBLE_RETURN_IF_ERROR(ExpectOperator(")"));
    return value;
  }

  absl::StatusOr<ExpressionPtr> ParseList() {
    ExpressionPtr list = Make(EKind::kList);
    while (!SkipOperator("]")) {
      NIBBLE_ASSIGN_OR_RETURN(ExpressionPtr element, ParseExpression());
      list->operands.push_back(std::move(element));
      if (!IsOperator("]")) NIBBLE_RETURN_IF_ERROR(ExpectOperator(","));
    }
    return Finish(std::move(list));
  }

  absl::StatusOr<ExpressionPtr> ParseDict() {
    ExpressionPtr dict = Make(EKind::kDict);
    while (!SkipOperator("}")) {
      NIBBLE_ASSIGN_OR_RETURN(ExpressionPtr key, ParseExpression());
      NIBBLE_RETURN_IF_ERROR(ExpectOperator(":"));
      NIBBLE_ASSIGN_OR_RETURN(ExpressionPtr value, ParseExpression());
      dict->operands.push_back(std::move(key));
      dict->operands.push_back(std::move(value));
      if (!IsOperator("}")) NIBBLE_RETURN_IF_ERROR(ExpectOperator(","));
    }
    return Finish(std::move(dict));
  }

  const std::vector<Token> tokens_;
  size_t at_ = 0;
  int depth_ = 0;
  int loops_ = 0;  // that enclose this place
};

}  // namespace

absl::StatusOr<Block> Parse(std::string_view source) {
  NIBBLE_ASSIGN_OR_RETURN(std::vector<Token> tokens, Tokenize(source));
  return Parser(std::move(tokens)).Run();
}

}  // namespace nibble::engine::jinja
