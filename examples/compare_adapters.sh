#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every kind of adapter learns the same text in the same order, and a page compares the runs.
set -eu
out=${1:-build/adapters}
steps=${2:-60}
here=$(dirname "$0")
train=$here/devils-dictionary-train.jsonl
mkdir -p "$out"

gsqc plan smollm2-135m --seq 96 --adapters all

learn() { # name, adapter, learning rate
  rm -rf "$out/$1"
  gsqc compile smollm2-135m --adapter "$2" --seq 96 --seed 1 -o "$out/$1.gsqc" --force
  gsqc train "$out/$1.gsqc" --data "$train" --steps "$steps" --lr "$3" --seed 1 \
    --validation 5% --eval-limit 10 --run "$out/$1"
}

learn lora lora 1e-3
learn lora-fa lora:train=b 1e-3
learn paca paca 1e-3
learn miss miss 2e-4
learn peqa peqa 4e-3
learn road road 4e-3
learn loldu loldu 2e-3
gsqc compare "$out/lora" "$out/lora-fa" "$out/paca" "$out/miss" "$out/peqa" "$out/road" \
  "$out/loldu" -o "$out/compare.html" --force
