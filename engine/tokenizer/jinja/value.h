// Values of the template language. Immutable and cheap to copy, except a Namespace, whose attributes can be set.
#ifndef NIBBLE_ENGINE_TOKENIZER_JINJA_VALUE_H_
#define NIBBLE_ENGINE_TOKENIZER_JINJA_VALUE_H_

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "engine/tokenizer/jinja/text.h"

namespace nibble::engine::jinja {

class Value;
struct Macro;

struct Undefined {};
struct None {};

struct List {
  std::vector<Value> items;
  int depth = 1;      // of nesting, itself included
  size_t weight = 1;  // elements and bytes in all, shared ones as often as they occur: what walking it costs
};

// In the order of insertion; keys are strings.
struct Dict {
  std::vector<std::pair<std::shared_ptr<const Text>, Value>> items;
  int depth = 1;
  size_t weight = 1;
};

struct Namespace;

class Value {
 public:
  Value() = default;  // undefined
  Value(None none) : data_(none) {}
  Value(bool value) : data_(value) {}
  Value(int64_t value) : data_(value) {}
  Value(double value) : data_(value) {}
  Value(Text text) : data_(std::make_shared<const Text>(std::move(text))) {}
  Value(std::shared_ptr<const Text> text) : data_(std::move(text)) {}
  Value(Namespace* value) : data_(value) {}  // owned by the rendering
  Value(const Macro* value) : data_(value) {}
  template <typename Anything>
  Value(Anything*) = delete;

  static Value MakeList(std::vector<Value> items);
  static Value MakeDict(std::vector<std::pair<std::shared_ptr<const Text>, Value>> items);

  bool is_undefined() const { return Is<Undefined>(); }
  bool is_none() const { return Is<None>(); }
  bool is_bool() const { return Is<bool>(); }
  bool is_integer() const { return Is<int64_t>(); }
  bool is_float() const { return Is<double>(); }
  bool is_number() const { return is_integer() || is_float() || is_bool(); }
  // nullptr if the value is something else.
  const Text* text() const { return Pointee<std::shared_ptr<const Text>>(); }
  const List* list() const { return Pointee<std::shared_ptr<const List>>(); }
  const Dict* dict() const { return Pointee<std::shared_ptr<const Dict>>(); }
  Namespace* space() const { return Pointee<Namespace*>(); }
  const Macro* macro() const { return Pointee<const Macro*>(); }
  // REQUIRES: of that kind; integer() takes bools too, number() any number.
  int64_t integer() const { return is_bool() ? std::get<bool>(data_) : std::get<int64_t>(data_); }
  double number() const { return is_float() ? std::get<double>(data_) : static_cast<double>(integer()); }

  bool Truth() const;
  // As the language prints it: undefined is empty, none "None".
  Text ToText() const;
  // How deep lists and dictionaries nest in it.
  int depth() const;
  // What walking all of it costs: about the bytes it prints.
  size_t weight() const;
  // "string", "list", …: for messages.
  std::string_view TypeName() const;

 private:
  template <typename Type>
  bool Is() const {
    return std::holds_alternative<Type>(data_);
  }
  template <typename Pointer>
  auto Pointee() const -> decltype(&*std::declval<Pointer>()) {
    const Pointer* pointer = std::get_if<Pointer>(&data_);
    return pointer == nullptr ? nullptr : &**pointer;
  }

  std::variant<Undefined, None, bool, int64_t, double, std::shared_ptr<const Text>, std::shared_ptr<const List>,
               std::shared_ptr<const Dict>, Namespace*, const Macro*>
      data_;
};

struct Namespace {
  std::map<std::string, Value> attributes;
};

using DictItems = std::vector<std::pair<std::shared_ptr<const Text>, Value>>;

// A string of the interpreter's own making.
Value TrustedText(std::string_view text);
// Value of the key, or undefined.
Value Lookup(const Dict& dict, std::string_view key);
bool Equal(const Value& left, const Value& right);

}  // namespace nibble::engine::jinja

#endif  // NIBBLE_ENGINE_TOKENIZER_JINJA_VALUE_H_
