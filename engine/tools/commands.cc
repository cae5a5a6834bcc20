// The table of the offline commands. To add one: its run function, its flags in flags.cc, a row here.
#include <iostream>

#include "engine/tools/bench.h"
#include "engine/tools/calibrate.h"
#include "engine/tools/command.h"
#include "engine/tools/delta.h"
#include "engine/tools/eval.h"
#include "engine/tools/generate.h"
#include "engine/tools/inspect.h"
#include "engine/tools/quantize.h"
#include "engine/tools/tokenize_command.h"

namespace nibble::engine {
namespace {

absl::Status RunInspect(const std::vector<std::string>& positionals) { return Inspect(positionals[0], std::cout); }

}  // namespace

std::vector<Command> OfflineCommands() {
  return {
      {"generate",
       "Answers one prompt and streams the text to stdout.",
       "--model FILE --prompt TEXT|--prompt-file F [--chat] [--max-tokens N] [--temperature T] [--seed S] "
       "[--kv C] [--kv-calibration F] [--adapter F] [--json F]",
       {"model", "prompt", "prompt-file", "chat", "max-tokens", "temperature", "seed", "weights", "activations", "kv",
        "kv-calibration", "adapter", "threads", "json"},
       0,
       0,
       RunGenerate},
      {"inspect",
       "Prints what a model (a GGUF file, a Hugging Face folder, a quantized file), a KV calibration or a delta holds.",
       "FILE",
       {},
       1,
       1,
       RunInspect},
      {"tokenize",
       "Prints the token ids of a text.",
       "--model FILE --text T|--file F [--json F]",
       {"model", "text", "file", "json"},
       0,
       0,
       RunTokenize},
      {"eval",
       "Perplexity of a text, and how far each mode is from f32 weights, f32 activations and an f16 cache.",
       "--model FILE --text F [--context N] [--chunks N] [--score second-half|all] [--weights M,…] [--activations M,…] "
       "[--kv C,…] [--kv-calibration F] [--kv-window W] [--kv-sink S] [--retrieval N,…] [--adapter F] [--base FILE] "
       "[--json F]",
       {"model", "base", "text", "context", "chunks", "score", "weights", "activations", "kv", "kv-calibration",
        "kv-window", "kv-sink", "retrieval", "adapter", "threads", "json"},
       0,
       0,
       RunEval},
      {"calibrate",
       "Learns from a text what the coupled KV codecs (cq*, klt*) need to know of a model.",
       "--model FILE --text F --out F.nibblekv [--kv C,…] [--seed S] [--context N] [--chunks N]",
       {"model", "text", "out", "kv", "seed", "context", "chunks", "threads"},
       0,
       0,
       RunCalibrate},
      {"quantize",
       "Rounds a model's weights ahead of time, for activations of 8 or 4 bits; the file serves as --model.",
       "--model FILE --weights w8|w4 --activations a8|a4 [--calibration-text F] --out F [--context N] [--chunks N]",
       {"model", "weights", "activations", "calibration-text", "out", "context", "chunks", "threads"},
       0,
       0,
       RunQuantize},
      {"delta",
       "Makes a 1-bit delta of a fine-tune and its base (compress), or checks one (verify).",
       "compress --base MODEL --tuned MODEL --out F [--planes N] [--scales matrix|row] [--calibration-text F] | verify "
       "--base MODEL --adapter "
       "F "
       "[--tuned MODEL [--text F]]",
       {"base", "tuned", "adapter", "out", "planes", "scales", "calibration-text", "text", "context", "chunks",
        "threads"},
       1,
       1,
       RunDelta},
      {"bench",
       "Prefill and decode speed by batch, depth and cache codec, and the share of the machine's peaks.",
       "--model FILE [--prefill N] [--decode N] [--batch N,…] [--depth N,…] [--kv C,…] [--kv-calibration F] "
       "[--activations M] [--adapters N,…] [--repeat N] [--json F]",
       {"model", "prefill", "decode", "batch", "depth", "kv", "kv-calibration", "activations", "adapters", "threads",
        "repeat", "json"},
       0,
       0,
       RunBench},
  };
}

}  // namespace nibble::engine
