#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The main job on real input: compile SmolLM2-135M into an integer step, fine-tune it on The Devil's
# Dictionary, and compare its answers.
set -eu
out=${1:-build/demo}
here=$(dirname "$0")
train=$here/devils-dictionary-train.jsonl
heldout=$here/devils-dictionary-heldout.jsonl
prompt="Define Politician (noun) in the manner of The Devil's Dictionary."
mkdir -p "$out"
rm -rf "$out/run"

say() { printf '\n== %s\n' "$*"; }

say "Compile SmolLM2-135M for this machine: 4-bit base, 8-bit activations and gradients, rank 16"
gsqc compile smollm2-135m --target native --bits 4-8-8 --base gguf --adapter lora:rank=16,alpha=32 \
  --optimizer adamw --seq 96 --batch 4 --seed 1 -o "$out/smol.gsqc" --force
say "Before: held-out loss, and a definition"
gsqc eval "$out/smol.gsqc" --data "$heldout"
gsqc generate "$out/smol.gsqc" --prompt "$prompt" --max-tokens 40
say "Fine-tune, integers only"
gsqc train "$out/smol.gsqc" --data "$train" --steps 40 --lr 1e-3 --warmup 5 --seed 1 \
  --run "$out/run"
say "After: held-out loss, and the same definition"
gsqc eval "$out/smol.gsqc" --run "$out/run" --data "$heldout"
gsqc generate "$out/smol.gsqc" --run "$out/run" --prompt "$prompt" --max-tokens 40
