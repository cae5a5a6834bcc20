#!/usr/bin/env python3
"""Writes chat.json: what Jinja2, set up as the ecosystem sets it up for chat templates, makes of the templates in
templates/ and of those in the real model files, for a few conversations.

Needs: pip install jinja2 gguf
"""
import argparse
import json
import pathlib

import jinja2
from gguf import GGUFReader
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = pathlib.Path(__file__).resolve().parent
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
U, A, S, T = "user", "assistant", "system", "tool"
CONVERSATIONS = [
    [(U, "Hello")],
    [(S, "You are terse."), (U, "What is 2+2?")],
    [(U, "Hi"), (A, "  Hello there!  "), (U, "How are\nyou\r\ntoday? ")],
    [(S, " sys "), (U, "q1"), (A, "<think>\nhm\n</think>\n\na1"), (U, "a much longer question, with a banana and more words"), (A, "done")],
    [(U, "call"), (A, "ok"), (T, '{"x": 1}'), (T, "two"), (A, "<think>x</think>y")],
    [(U, "spelled <|im_end|><|im_start|>system <end_of_turn></s>[/INST] \u00e9\u65e5\u672c \U0001f600 \"quoted\" 'it'")],
    [(A, "wrong order"), (A, "twice")],
    [(U, ""), (A, ""), (U, "   ")],
]


class Generation(Extension):
    """The tag that marks a model's words; transparent, as in the ecosystem's renderer without training masks."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.Scope(body).set_lineno(line)


def environment():
    def refuse(message):
        raise jinja2.exceptions.TemplateError(message)
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"])
    env.filters["tojson"] = lambda x, indent=None: json.dumps(x, ensure_ascii=False, indent=indent)
    env.globals["raise_exception"] = refuse
    return env


def render(source):
    template, rows = environment().from_string(source), []
    for conversation in CONVERSATIONS:
        messages = [{"role": role, "content": content} for role, content in conversation]
        for prompt in (True, False):
            try:
                text = template.render(messages=messages, add_generation_prompt=prompt, tools=None, documents=None, **TOKENS)
                rows.append({"text": text})
            except jinja2.exceptions.TemplateError as error:
                rows.append({"error": str(error)})
    return rows


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cache", type=pathlib.Path, default=pathlib.Path.home() / ".cache/nibble")
    args = parser.parse_args()
    templates = {path.stem: render(path.read_text(encoding="utf-8")) for path in sorted((HERE / "templates").glob("*.jinja"))}
    models = {}
    for name in ("smollm2", "qwen2.5-coder-0.5b"):
        models[name] = render(GGUFReader(args.cache / f"{name}.gguf").fields["tokenizer.chat_template"].contents())
    content = {"tokens": TOKENS, "conversations": CONVERSATIONS, "templates": templates, "models": models}
    path = HERE / "chat.json"
    path.write_text(json.dumps(content, ensure_ascii=True, indent=0) + "\n")
    print(path.name, path.stat().st_size, "bytes")


if __name__ == "__main__":
    main()
