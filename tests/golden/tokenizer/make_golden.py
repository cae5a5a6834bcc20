#!/usr/bin/env python3
"""Writes the golden files of the tokenizer tests: texts and the ids that the reference tokenizers give them.

The references are built from what the model makers publish: the vocabulary and merges in the model file and, for each
pre-tokenizer name, the expression of the makers' own tokenizer.json, run by the `tokenizers` package; for the
SentencePiece style, the `sentencepiece` package on a model rebuilt from the file's pieces. Pre-tokenizers without a
model at hand get a tiny vocabulary trained here.

Needs: pip install tokenizers gguf sentencepiece protobuf
Usage: make_golden.py [--cache ~/.cache/nibble] [--check FILE]   (--check: print counts and hashes for one more text)
"""
import argparse
import json
import pathlib
import random

from gguf import GGUFReader
from sentencepiece import SentencePieceProcessor
from sentencepiece import sentencepiece_model_pb2 as spm
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

HERE = pathlib.Path(__file__).resolve().parent
NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
FNV_OFFSET, FNV_PRIME = 0xCBF29CE484222325, 0x100000001B3

TIKTOKEN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{number}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*"
            r"|\s*[\r\n]+|\s+(?!\S)|\s+")


def pre_tokenizer(name):
    """What the makers' tokenizer.json has for a GGUF pre-tokenizer name."""
    byte_level = lambda regex: pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=regex)
    split = lambda number: pre_tokenizers.Split(Regex(TIKTOKEN.format(number=number)), "isolated", invert=False)
    return pre_tokenizers.Sequence({
        "gpt-2": lambda: [byte_level(True)],
        "smollm": lambda: [pre_tokenizers.Digits(individual_digits=True), byte_level(True)],
        "qwen2": lambda: [split(r"\p{N}"), byte_level(False)],
        "llama-bpe": lambda: [split(r"\p{N}{1,3}"), byte_level(False)],
    }[name]())


class ByteLevelReference:
    def __init__(self, data):
        merges = [tuple(merge.split(" ", 1)) for merge in data["merges"]]
        vocab = {token: i for i, token in enumerate(data["tokens"])}
        self.tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, ignore_merges=data["pre"] == "llama-bpe"))
        self.tokenizer.pre_tokenizer = pre_tokenizer(data["pre"])
        self.tokenizer.decoder = decoders.ByteLevel()
        added = lambda kind: [AddedToken(token, normalized=False, special=kind == CONTROL)
                              for token, type_ in zip(data["tokens"], data["types"]) if type_ == kind]
        self.tokenizer.add_special_tokens(added(CONTROL))
        self.tokenizer.add_tokens(added(USER_DEFINED))

    def encode(self, text, parse_special):
        self.tokenizer.encode_special_tokens = not parse_special
        return self.tokenizer.encode(text, add_special_tokens=False).ids


class SentencePieceReference:
    def __init__(self, data):
        proto = spm.ModelProto()
        for token, score, kind in zip(data["tokens"], data["scores"], data["types"]):
            piece = token.replace(" ", "\u2581") if kind == USER_DEFINED else token
            proto.pieces.add(piece=piece, score=score, type=UNKNOWN if token == "<unk>" else kind)
        proto.trainer_spec.model_type = spm.TrainerSpec.BPE
        proto.trainer_spec.byte_fallback = BYTE in data["types"]
        proto.normalizer_spec.name = "identity"
        proto.normalizer_spec.add_dummy_prefix = data["add_space_prefix"]
        proto.normalizer_spec.remove_extra_whitespaces = False
        proto.normalizer_spec.escape_whitespaces = True
        self.processor = SentencePieceProcessor(model_proto=proto.SerializeToString())
        self.control = {t: i for i, (t, kind) in enumerate(zip(data["tokens"], data["types"])) if kind in (CONTROL, UNKNOWN)}

    def encode(self, text, parse_special):
        """Control tokens part the text, as everywhere; SentencePiece itself never reads them from text."""
        if not parse_special:
            return self.processor.encode(text)
        ids, plain, at = [], "", 0
        while at < len(text):
            found = max((t for t in self.control if text.startswith(t, at)), key=len, default="")
            if found:
                ids += self.processor.encode(plain) + [self.control[found]]
                plain = ""
            plain += "" if found else text[at]
            at += len(found) or 1
        return ids + self.processor.encode(plain)


def read_gguf(path):
    fields = GGUFReader(path).fields
    get = lambda key, default: fields["tokenizer.ggml." + key].contents() if "tokenizer.ggml." + key in fields else default
    return {"style": get("model", ""), "pre": get("pre", ""), "tokens": get("tokens", []), "types": get("token_type", []),
            "scores": get("scores", []), "merges": get("merges", []), "add_space_prefix": get("add_space_prefix", True)}


def reference(data):
    return SentencePieceReference(data) if data["style"] == "llama" else ByteLevelReference(data)


SCRIPTS = {
    "latin": "The quick brown fox doesn't jump over 13 lazy dogs; they'll WE'VE I'M it's. Ça coûte 1 234,56 € à Zürich, žluťoučký kůň.",
    "cyrillic": "Съешь ещё этих мягких французских булок, да выпей чаю. Київ — столиця України.",
    "greek": "Ξεσκεπάζω τὴν ψυχοφθόρα βδελυγμία. Η γρήγορη αλεπού.",
    "arabic": "نص حكيم له سر قاطع وذو شأن عظيم مكتوب على ثوب أخضر ومغلف بجلد أزرق، ١٢٣٤.",
    "hebrew": "דג סקרן שט בים מאוכזב ולפתע מצא חברה. שָׁלוֹם עוֹלָם",
    "devanagari": "ऋषियों को सताने वाले दुष्ट राक्षसों के राजा रावण का सर्वनाश करने वाले, १२३।",
    "thai": "เป็นมนุษย์สุดประเสริฐเลิศคุณค่า กว่าบรรดาฝูงสัตว์เดรัจฉาน ๑๒๓",
    "chinese": "我能吞下玻璃而不伤身体。天地玄黃,宇宙洪荒。共1234个,第三百二十一章",
    "japanese": "いろはにほへと ちりぬるを。カタカナとひらがな、漢字が混ざる文章です。1234円",
    "korean": "키스의 고유조건은 입술끼리 만나야 하고 특별한 기술은 필요치 않다. 123개",
    "tamil": "யாமறிந்த மொழிகளிலே தமிழ்மொழி போல் இனிதாவது எங்கும் காணோம்",
    "georgian": "ვეპხის ტყაოსანი შოთა რუსთაველი, ღმერთსი შემვედრე",
    "amharic": "ሰማይ አይታረስ ንጉሥ አይከሰስ። ፩፪፫",
    "mixed": "Hello мир 世界 שלום नमस्ते 🌍 123abc٣٤٥ⅣⅤ½²x₃",
}
TEXTS = {
    **SCRIPTS,
    "empty": "", "space": " ", "newline": "\n", "nul": "a\x00b\x00\x00c", "edges": "  leading and trailing  ",
    "emoji": "👍🏽 family 👨‍👩‍👧‍👦 flag 🇩🇪🇯🇵 keycap 1️⃣ heart ❤️‍🔥 🤷🏿‍♀️ zwj\u200d end 😀😀😀😀",
    "code": "#include <vector>\n\nint main(int argc, char** argv) {\n\tstd::vector<int> v{1, 22, 333, 4444};\n"
            "    for (auto& x : v) { x += 0x7fff'ffff; }\n\treturn v[0] != 1 && argv[1] == nullptr ? -1 : 0;  // done\n}\n",
    "python": "def f(x: int = 10) -> str:\n    '''doc'''\n    return f\"{x!r:>10}\" if x else None\n\n\nclass A(B):\n\tpass\r\n\r\n",
    "html": "<table><tr><td><b>bold</b></td></tr></table>\n\n\n<h1>x</h1> <code>a  b</code>\t\t<s>",
    "json": '{"a": [1, 2.5e-10, null, true], "key with spaces": "va\\"lue\\u00e9"}',
    "math": "∀ε>0 ∃δ>0: |x−a|<δ ⇒ |f(x)−L|<ε, ∑ᵢ₌₁ⁿ xᵢ² ≈ π/4 ± 10⁻³",
    "spaces": "a" + " " * 1 + "b" + " " * 2 + "c" + " " * 3 + "d" + " " * 17 + "e" + " " * 100 + "f" + " " * 31,
    "whitespace": "a \t b\t\t\tc\n\n\n\nd \n \n e\r\n\r\nf\u00a0g\u3000h\u2003\u2003i\u180ej\u0085k\u2028l\x0b\x0cm \n",
    "digits": "1 12 123 1234 12345 1234567890 3.14159 1,000,000 0000000 ١٢٣٤٥ 一二三 ⅧⅨ ½¼ 2²³",
    "contractions": "I'm I'M we've WE'VE he'll HE'LL it's IT'S they're 'twas don't DON'T 'ſ x'ſ y'd Y'D ''s 's",
    "combining": "e\u0301 a\u0308o\u0323\u0302 Z\u0335\u0321\u0322\u0327 \u0301start ก\u0e49\u0e49\u0e49",
    "punctuation": "!!! ... ??? --- *** ((())) [[]] {{}} <<>> \"\"\" ''' ``` @#$%^&*_+=|\\~ … — – ¿¡ « » „“",
    "special": "<|im_start|>user\nhi<|im_end|><|endoftext|> <bos><start_of_turn>x<end_of_turn>\n <|eot_id|> </s><s> <tool_call>{}</tool_call>",
    "almost special": "<|im_start|<|im_start |> <|im_|> <start_of_turn <<bos>> [multimodal] <unused5> <0x41>",
    "spelled space": "a\u2581b \u2581\u2581c",
    "private": "\ue000\uf8ff\ufdd0\ufffe \U000f0000 \U0010ffff \u0378 \u00ad\u200b\u2060\ufeff",
}
REPEATED = {"a": ("a", 30000), "spaces": (" ", 30000), "mixed": ("ab ", 9000), "newlines": ("\n", 5000), "digits": ("7", 5000),
            "cjk": ("漢字", 3000), "tabs": ("\t \t", 2000), "emoji": ("👍🏽", 1000)}


def random_texts(count=24, seed=7):
    """Bytes drawn at random and read as UTF-8, and code points drawn from many blocks."""
    draw = random.Random(seed)
    blocks = [(0, 0x7F), (0x80, 0x24F), (0x300, 0x36F), (0x370, 0x5FF), (0x900, 0xDFF), (0x2000, 0x2BFF), (0x3000, 0x30FF),
              (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0x1F300, 0x1F6FF)]
    texts = {}
    for i in range(count // 2):
        texts[f"random bytes {i}"] = draw.randbytes(120).decode("utf-8", "replace")
        texts[f"random text {i}"] = "".join(chr(draw.randint(*draw.choice(blocks))) for _ in range(60))
    return texts


def hash_ids(ids):
    value = FNV_OFFSET
    for byte in b"".join(i.to_bytes(4, "little") for i in ids):
        value = (value ^ byte) * FNV_PRIME & 0xFFFFFFFFFFFFFFFF
    return f"{value:016x}"


def summary(ids):
    """Enough to compare; the ids themselves only where they are few."""
    return {"count": len(ids), "fnv1a": hash_ids(ids), **({"ids": ids} if len(ids) <= 40 else {})}


def all_texts():
    return {**TEXTS, **random_texts(), **{f"repeated {name}": unit * times for name, (unit, times) in REPEATED.items()},
            "excerpt": (HERE / "wikitext_excerpt.txt").read_text(encoding="utf-8")}


def cases(data):
    ref = reference(data)
    return {name: {"plain": summary(ref.encode(text, False)), "special": summary(ref.encode(text, True))}
            for name, text in all_texts().items()}


def tiny_corpus():
    return [text for text in SCRIPTS.values() for _ in range(2)] + [TEXTS[k] for k in ("code", "python", "html", "json", "spaces")] + [
        (HERE / "wikitext_excerpt.txt").read_text(encoding="utf-8")[:20000]]


def train_byte_level(pre, size=550):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizer(pre)
    tokenizer.train_from_iterator(tiny_corpus(), trainers.BpeTrainer(
        vocab_size=size, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    model = json.loads(tokenizer.to_str())["model"]
    tokens = [t for t, _ in sorted(model["vocab"].items(), key=lambda item: item[1])]
    types = [NORMAL] * len(tokens)
    for text, kind in (("<|im_start|>", CONTROL), ("<|im_end|>", CONTROL), ("<|eot_id|>", CONTROL), ("<tool_call>", USER_DEFINED)):
        tokens.append(text)
        types.append(kind)
    return {"style": "gpt2", "pre": pre, "tokens": tokens, "types": types, "scores": [],
            "merges": [" ".join(m) for m in model["merges"]], "add_space_prefix": False}


def train_sentencepiece(size=550):
    """Pieces as SentencePiece's BPE would have them: normal ones scored by the order in which they were formed."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.train_from_iterator(tiny_corpus(), trainers.BpeTrainer(vocab_size=size, limit_alphabet=200, show_progress=False))
    model = json.loads(tokenizer.to_str())["model"]
    merged = ["".join(merge) for merge in model["merges"]]
    letters = sorted(set(model["vocab"]) - set(merged))
    bytes_ = [f"<0x{b:02X}>" for b in range(256)]
    tokens = ["<unk>", "<s>", "</s>", *bytes_, *dict.fromkeys(merged), *letters, "[[]]", "  "]
    types = [UNKNOWN, CONTROL, CONTROL, *[BYTE] * 256, *[NORMAL] * (len(tokens) - 261), USER_DEFINED, USER_DEFINED]
    scores = [0.0] * 259 + [-float(i) for i in range(len(tokens) - 259)]
    return {"style": "llama", "pre": "", "tokens": tokens, "types": types, "scores": scores, "merges": [], "add_space_prefix": True}


MODELS = ("smollm2", "qwen2.5-coder-0.5b", "gemma3-270m")


def write(name, content):
    path = HERE / f"{name}.json"
    path.write_text(json.dumps(content, ensure_ascii=True, separators=(",", ":")) + "\n")
    print(path.name, path.stat().st_size, "bytes")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=pathlib.Path, default=pathlib.Path.home() / ".cache/nibble")
    parser.add_argument("--check", type=pathlib.Path)
    args = parser.parse_args()
    if args.check:
        for model in MODELS:
            ids = reference(read_gguf(args.cache / f"{model}.gguf")).encode(args.check.read_bytes().decode("utf-8"), False)
            print(model, len(ids), hash_ids(ids))
        return
    write("texts", {"texts": {**TEXTS, **random_texts()}, "repeated": REPEATED})
    for model in MODELS:
        write(model, {"cases": cases(read_gguf(args.cache / f"{model}.gguf"))})
    for pre in ("smollm", "qwen2", "gpt-2", "llama-bpe"):
        tiny = train_byte_level(pre)
        write(f"tiny-{pre}", {"data": tiny, "cases": cases(tiny)})
    tiny = train_sentencepiece()
    write("tiny-sentencepiece", {"data": tiny, "cases": cases(tiny)})


if __name__ == "__main__":
    main()
