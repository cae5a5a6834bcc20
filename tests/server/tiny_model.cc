#include "tests/server/tiny_model.h"

#include <string>
#include <utility>

#include "engine/tokenizer/utf8.h"
#include "kvcache/base/check.h"

namespace nibble::server {
namespace {

// A conversation that begins with the role "nobody" renders to nothing.
constexpr char kChatTemplate[] =
    "{% if messages[0]['role'] != 'nobody' %}"
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + "
    "'\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}{% endif %}";

bool PrintsAsItself(int byte) {
  return (byte >= '!' && byte <= '~') || (byte >= 0xA1 && byte <= 0xAC) || (byte >= 0xAE && byte <= 0xFF);
}

}  // namespace

engine::TokenizerData TinyTokenizerData() {
  engine::TokenizerData data;
  data.pre = "gpt-2";
  // Byte-level vocabularies write a byte that does not print as one of the characters from U+0100 on.
  char32_t next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    std::string token;
    engine::AppendCharacter(PrintsAsItself(byte) ? static_cast<char32_t>(byte) : next++, token);
    data.tokens.push_back(std::move(token));
    data.types.push_back(engine::TokenType::kNormal);
  }
  for (const char* control : {"<|im_start|>", "<|im_end|>", "<|endoftext|>"}) {
    data.tokens.push_back(control);
    data.types.push_back(engine::TokenType::kControl);
  }
  data.eos = kImEnd;
  data.eot = kImEnd;
  data.chat_template = kChatTemplate;
  return data;
}

std::unique_ptr<ServedModel> TinyModel(const ScriptedEngineOptions& options, ScriptedEngine** engine) {
  auto model = std::make_unique<ServedModel>();
  model->name = "tiny";
  model->architecture = "scripted";
  model->kv_codec = "f16";
  auto tokenizer = engine::Tokenizer::Create(TinyTokenizerData());
  NIBBLE_CHECK(tokenizer.ok());
  model->tokenizer = *std::move(tokenizer);
  model->chat_template = engine::ChatTemplate::Compile(TinyTokenizerData());
  NIBBLE_CHECK(model->chat_template.ok());
  auto scripted = std::make_unique<ScriptedEngine>(options);
  if (engine != nullptr) *engine = scripted.get();
  model->grammars = std::make_unique<engine::grammar::Compiler>(*model->tokenizer, options.vocab_size);
  model->engine = std::move(scripted);
  return model;
}

}  // namespace nibble::server
