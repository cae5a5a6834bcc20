// What a chat template means, as a tree. Built by the parser, read by the interpreter; immutable in between.
#ifndef NIBBLE_ENGINE_TOKENIZER_JINJA_AST_H_
#define NIBBLE_ENGINE_TOKENIZER_JINJA_AST_H_

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/tokenizer/jinja/value.h"

namespace nibble::engine::jinja {

struct Expression;
using ExpressionPtr = std::unique_ptr<Expression>;

struct Expression {
  enum class Kind {
    kLiteral,    // value
    kName,       // name
    kList,       // operands: the elements
    kDict,       // operands: key, value, key, value, …
    kAttribute,  // operands[0] . name
    kIndex,      // operands[0] [ operands[1] ]
    kSlice,      // operands[0] [ operands[1] : operands[2] : operands[3] ]; a missing bound is nullptr
    kCall,       // operands[0] ( operands[1…], named… )
    kMethod,     // operands[0] . name ( operands[1…], named… )
    kFilter,     // operands[0] | name ( operands[1…], named… )
    kTest,       // operands[0] is name ( operands[1…] )
    kUnary,      // name: "-", "+" or "not"
    kBinary,     // name: "+", "-", "*", "/", "//" or "%"
    kConcat,     // operands joined as strings
    kAnd,
    kOr,
    kCompare,  // operands[0] ops[0] operands[1] ops[1] …; also "in" and "not in"
    kIf,       // operands: condition, then, else (nullptr: undefined)
  };

  Kind kind = Kind::kLiteral;
  int line = 1;
  int depth = 1;  // of the tree below, itself included
  Value value;
  std::string name;
  std::vector<ExpressionPtr> operands;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
  std::vector<std::string> ops;
};

struct Statement;
using Block = std::vector<Statement>;

// A macro's parameters and body.
struct Macro {
  std::string name;
  std::vector<std::pair<std::string, ExpressionPtr>> parameters;  // with default, or nullptr
  Block body;
};

struct Branch {
  ExpressionPtr condition;  // nullptr: else
  Block body;
};

struct Statement {
  enum class Kind {
    kText,      // text
    kPrint,     // expression
    kIf,        // branches
    kFor,       // targets in expression, where condition (or nullptr); body, otherwise
    kSet,       // targets = expression, or attribute `member` of targets[0]
    kSetBlock,  // targets[0] = what body prints
    kMacro,     // macro
    kBreak,
    kContinue,
  };

  Kind kind = Kind::kText;
  int line = 1;
  Text text;
  ExpressionPtr expression;
  ExpressionPtr condition;
  std::vector<std::string> targets;
  std::string member;
  std::vector<Branch> branches;
  Block body;
  Block otherwise;
  std::unique_ptr<Macro> macro;
};

}  // namespace nibble::engine::jinja

#endif  // NIBBLE_ENGINE_TOKENIZER_JINJA_AST_H_
