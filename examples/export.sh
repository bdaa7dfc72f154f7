#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# A few notes become an adapter, and the adapter goes to PEFT, to llama.cpp and into a merged model.
set -eu
out=${1:-build/export}
here=$(dirname "$0")
mkdir -p "$out"
rm -rf "$out/run"

gsqc compile smollm2-135m --seq 64 --batch 4 -o "$out/notes.gsqc" --force
gsqc train "$out/notes.gsqc" --data "$here/notes.jsonl" --steps 45 --lr 2e-3 --warmup 5 \
  --run "$out/run"
gsqc export "$out/notes.gsqc" --run "$out/run" --force --peft "$out/peft" \
  --gguf "$out/notes-lora.gguf" --merged "$out/notes-merged.gguf"
gsqc report "$out/run" --bundle "$out/notes.gsqc" --sample "Where is the spare key?"
