#!/usr/bin/env python3
"""Makes a text to calibrate KV codecs on: prose, source code, dialogue and dialogue in other languages in turn, as a daemon
for everybody meets them.

usage: kv_calibration_text.py --model F.gguf --prose F.txt [--skip-bytes 160000] --out F.txt

Prose is what --prose holds after its first --skip-bytes (which stay for scoring). Code is every other module of Python's
own library (the others stay for scoring). Dialogue is what the model itself answers to the questions below, by
`nibble generate`, in English and in eight other languages; German is not among them, so that it can be scored. Pieces of
5 KB of prose, 3.5 KB of code and 2.5 KB of each kind of dialogue alternate, so that a chunk of 2048 tokens holds about one
of each. The same inputs make the same text.
"""
import argparse
import json
import pathlib
import subprocess
import sysconfig

ROOT = pathlib.Path(__file__).resolve().parents[2]
NIBBLE = ROOT / "build/release/bin/nibble"

QUESTIONS = (
    "How do I boil an egg so that the yolk stays soft?", "Explain what a hash table is to a new programmer.",
    "My train is late and I will miss my meeting. Write a short message to my manager.",
    "What are the main causes of the First World War?", "Give me three ideas for a birthday gift for my father.",
    "Why is the sky blue?", "Write a Python function that removes duplicates from a list but keeps its order.",
    "Plan a day in Lisbon for a family with two children.", "What is the difference between a virus and a bacterium?",
    "Summarize the story of Romeo and Juliet.", "How can I sleep better?", "Is it better to rent or to buy a home?",
    "Tell me a joke about engineers, then explain it.", "Translate 'Where is the library?' into Spanish and French.",
    "How does a bicycle stay upright?", "Write a polite letter that complains about a broken washing machine.",
)
OTHER_QUESTIONS = (
    "Explique por qué el cielo es azul.", "Comment faire cuire un œuf à la coque ?",
    "Quali sono le cause della prima guerra mondiale?", "Como posso dormir melhor?",
    "Wat is het verschil tussen een virus en een bacterie?",
    "Napisz krótką wiadomość do szefa, że pociąg się spóźni.", "Почему велосипед не падает?",
    "Bana bir hash tablosunun ne olduğunu açıkla.", "Resuma la historia de Romeo y Julieta.",
    "Planifie une journée à Lisbonne pour une famille avec deux enfants.", "È meglio affittare o comprare una casa?",
    "Escreva uma carta educada sobre uma máquina de lavar quebrada.",
    "Vertel een grap over ingenieurs en leg hem uit.", "Podaj trzy pomysły na prezent dla ojca.",
    "Расскажи кратко историю Москвы.", "İyi uyumak için ne yapmalıyım?",
)
ANSWER_TOKENS = 320
PIECES = (5000, 3500, 2500, 2500)  # characters of prose, code, dialogue and dialogue in other languages


def modules(scored):
    """The text of every other module of Python's library: one half to calibrate on, the other to score."""
    files = sorted(pathlib.Path(sysconfig.get_path("stdlib")).glob("*.py"))
    return "\n".join(f.read_text(encoding="utf-8", errors="ignore") for f in files[int(scored)::2])


def generate(model, *flags):
    return subprocess.run([NIBBLE, "generate", "--model", model, *flags, "--json", "-"], capture_output=True, text=True)


def has_chat_template(model):
    return generate(model, "--chat", "--prompt", QUESTIONS[0], "--max-tokens", "1").returncode == 0


def dialogue(model, chats, questions):
    """A base model, which has no chat template, is given the beginning of a dialogue instead."""
    turns = []
    for seed, question in enumerate(questions):
        prompt = ("--chat", "--prompt", question) if chats else ("--prompt", f"User: {question}\nAssistant:")
        run = generate(model, *prompt, "--max-tokens", str(ANSWER_TOKENS), "--temperature", "0.8", "--seed", str(seed))
        run.check_returncode()
        turns.append(f"User: {question}\nAssistant: {json.loads(run.stdout)['text'].strip()}\n\n")
    return "".join(turns)


def mix(sources):
    """Takes pieces of each source in turn until the first of the longer ones is used up; dialogue starts over."""
    out, at = [], 0
    while (at + 1) * PIECES[0] <= len(sources[0]) and (at + 1) * PIECES[1] <= len(sources[1]):
        for source, piece in zip(sources, PIECES):
            start = at * piece % max(1, len(source) - piece)
            out.append(source[start : start + piece] + "\n\n")
        at += 1
    return "".join(out)


def calibration_text(model, prose, skip_bytes):
    text = pathlib.Path(prose).read_bytes()[skip_bytes:].decode("utf-8", errors="ignore")
    chats = has_chat_template(model)
    dialogues = [dialogue(model, chats, questions) for questions in (QUESTIONS, OTHER_QUESTIONS)]
    return mix((text, modules(scored=False), *dialogues))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--prose", required=True)
    parser.add_argument("--skip-bytes", type=int, default=160000)
    parser.add_argument("--out", required=True)
    args = parser.parse_args()
    pathlib.Path(args.out).write_text(calibration_text(args.model, args.prose, args.skip_bytes), encoding="utf-8")


if __name__ == "__main__":
    main()
