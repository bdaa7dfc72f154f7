/* SPDX-License-Identifier: Apache-2.0 */
/* Written by write_format.py from the Python code: names, limits and rules of the files that both
 * runtimes read. */
#ifndef GSQC_FORMAT_H
#define GSQC_FORMAT_H

#define MANIFEST_FILE "manifest.json"
#define PLAN_FILE "plan.json"
#define TOKENIZER_FILE "tokenizer.json"
#define BASE_FILE "base.safetensors"
#define INITIAL_STATE_FILE "state.safetensors"
#define CODE_FOLDER "code/"
#define KERNELS_FILE "kernels.so"
#define PLAIN_CHARACTERS "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+-"
#define CONFIG_FILE "config.json"
#define STATE_FILE "state.safetensors"
#define BEST_FILE "best.safetensors"
#define LOG_FILE "log.jsonl"
#define LOCK_FILE "lock"
#define TOKENS_FORMAT "gsqc-tokens-3"
#define COPY_NAME "@copy"
#define DECODE_SCHEDULE "decode"
#define PREFILL_SCHEDULE "prefill"
#define LOSS_OUTPUT "loss"
#define STEP_NUMBER_INPUT "step_number"
#define FORWARD_OPTIMIZER "zo"
#define MOVES_INPUT "noise_moves"

#define FORMAT_VERSION 4
#define RUN_FORMAT 2
#define MAXIMUM_JSON_BYTES 268435456
#define MAXIMUM_HEADER_BYTES 100000000
#define MAXIMUM_DEPTH 64
#define MAXIMUM_COUNT 1099511627776
#define MAXIMUM_BITS 64
#define MAXIMUM_ARGUMENTS 64
#define MAXIMUM_THREADS 1024
#define MAXIMUM_STEPS 2147483647
#define MAXIMUM_SEQUENCES 64
#define MAXIMUM_STEP 9223372036854775807
#define ALIGNMENT 64
#define WEIGHT_ONE 16384
#define LOSS_ONE 65536
#define MANTISSA_END 1073741824
#define EXPONENT_END 4096
#define STEP_INPUTS 8
#define CLIP_MANTISSA 6
#define RATE_MANTISSA 2
#define NOISE_INPUTS 3
#define MAXIMUM_QUERIES 16
#define LEAST_EPSILON_BITS 4
#define MOST_EPSILON_BITS 20
#define LARGEST_MOVE 536870912
#define SEQUENCE_PARTS 4

#define MADE_FROM_THE_PLAN \
    "code/", "programs/"
#define BUFFER_KIND_NAMES \
    "base", "prepared", "state", "gradient", "cache", "input", "output"
#define SCHEDULE_NAMES \
    "prepare", "evaluate"
#define GRADIENT_SCHEDULE_NAMES \
    "train", "gradient", "clip", "update"
#define FORWARD_SCHEDULE_NAMES \
    "perturb", "update"
#define NOISE_INPUT_NAMES \
    "step_number", "noise_query", "noise_times"
#define DECAY_INPUT_NAMES \
    "decay_m", "decay_e"
#define SEQUENCE_PART_NAMES \
    "tokens", "labels", "weights", "positions"
#define STEP_INPUT_NAMES \
    "inverse_tokens_m", "inverse_tokens_e", "learning_rate_m", "learning_rate_e", "decay_m", \
    "decay_e", "clip_m", "clip_e"
#define GENERATION_INPUT_NAMES \
    "token", "position"
#define CHUNK_INPUT_NAMES \
    "chunk", "chunk_positions"
#define NORM_SUM_NAMES \
    "square_sum.m", "square_sum.e"
#define FIXED_SETTINGS \
    "data_sha256", "mask_prompt", "packing", "held_out_share", "images_sha256", "prompt_end", \
    "lr", "schedule", "warmup", "min_lr", "weight_decay", "clip", "sequences_per_step", "seed"
#define FIXED_IF_GIVEN \
    "validation_sha256"
#define FIXED_BY_SCHEDULE \
    "steps"

/* The kinds of a plan's buffers, as BUFFER_KIND_NAMES has them. */

#define BUFFER_KIND_LIST BASE, PREPARED, STATE, GRADIENT, CACHE, INPUT, OUTPUT

/* A kernel's input by its kind: how many tensors it has. */

#define VALUE_TENSORS {"tensor", 1}, {"row", 2}, {"gse", 3}

/* What a field has to be (fields.h). */

#define FIELD_KIND_LIST \
    FIELD_ANY, FIELD_OBJECT, FIELD_TABLE, FIELD_TEXT, FIELD_NUMBER, FIELD_TEXTS

/* The fields of a manifest: path, kind, whether it may be missing, limits, texts. */

#define MANIFEST_RULES \
    {"targets", FIELD_TABLE, false, 0, 0, NULL}, \
    {"targets.*", FIELD_OBJECT, false, 0, 0, NULL}, \
    {"targets.*.triple", FIELD_TEXT, false, 0, 0, NULL}, \
    {"targets.*.cpu_features", FIELD_TEXTS, false, 0, 0, NULL}, \
    {"targets.*.rank", FIELD_NUMBER, true, 0, 2147483647, NULL}, \
    {"targets.*.code_bytes", FIELD_NUMBER, false, 0, 9223372036854775807, NULL}, \
    {"targets.*.details", FIELD_TABLE, true, 0, 0, NULL}, \
    {"targets.*.details.*", FIELD_ANY, true, 0, 0, NULL}, \
    {"model", FIELD_OBJECT, false, 0, 0, NULL}, \
    {"model.architecture", FIELD_TEXT, false, 0, 0, NULL}, \
    {"model.layers", FIELD_NUMBER, false, 1, 4096, NULL}, \
    {"model.hidden", FIELD_NUMBER, false, 1, 2147483647, NULL}, \
    {"model.heads", FIELD_NUMBER, false, 1, 2147483647, NULL}, \
    {"model.key_value_heads", FIELD_NUMBER, false, 1, 2147483647, NULL}, \
    {"model.vocabulary", FIELD_NUMBER, false, 1, 16777216, NULL}, \
    {"model.name", FIELD_TEXT, true, 0, 0, NULL}, \
    {"model.license", FIELD_TEXT, true, 0, 0, NULL}, \
    {"model.tokenizer", FIELD_TEXT, true, 0, 0, NULL}, \
    {"model.known_name", FIELD_TEXT, true, 0, 0, NULL}, \
    {"model.eos_token_id", FIELD_ANY, true, 0, 0, NULL}, \
    {"model.bos_token_id", FIELD_ANY, true, 0, 0, NULL}, \
    {"model.chat_template", FIELD_ANY, true, 0, 0, NULL}, \
    {"model.special_tokens", FIELD_TABLE, true, 0, 0, NULL}, \
    {"model.special_tokens.*", FIELD_TEXT, false, 0, 0, NULL}, \
    {"model.end_token_ids", FIELD_ANY, true, 0, 0, NULL}, \
    {"model.labels", FIELD_TEXTS, true, 0, 0, NULL}, \
    {"adapter", FIELD_OBJECT, false, 0, 0, NULL}, \
    {"adapter.kind", FIELD_TEXT, false, 0, 0, NULL}, \
    {"adapter.settings", FIELD_TABLE, false, 0, 0, NULL}, \
    {"adapter.settings.*", FIELD_ANY, true, 0, 0, NULL}, \
    {"adapter.linears", FIELD_TEXTS, false, 0, 0, NULL}, \
    {"adapter.matrices", FIELD_TABLE, false, 0, 0, NULL}, \
    {"adapter.matrices.*", FIELD_OBJECT, false, 0, 0, NULL}, \
    {"adapter.matrices.*.rows", FIELD_NUMBER, false, 1, 2147483647, NULL}, \
    {"adapter.matrices.*.columns", FIELD_NUMBER, false, 1, 2147483647, NULL}, \
    {"bits", FIELD_TEXT, false, 0, 0, (const char *const[]){"4-5-5", "4-5-5:w4", "4-5-5:w6", \
    "4-5-5:w7", "4-5-5:w8", "4-5-6", "4-5-6:w4", "4-5-6:w6", "4-5-6:w7", "4-5-6:w8", "4-5-7", \
    "4-5-7:w4", "4-5-7:w6", "4-5-7:w7", "4-5-7:w8", "4-5-8", "4-5-8:w4", "4-5-8:w6", \
    "4-5-8:w7", "4-5-8:w8", "4-6-5", "4-6-5:w4", "4-6-5:w5", "4-6-5:w7", "4-6-5:w8", "4-6-6", \
    "4-6-6:w4", "4-6-6:w5", "4-6-6:w7", "4-6-6:w8", "4-6-7", "4-6-7:w4", "4-6-7:w5", \
    "4-6-7:w7", "4-6-7:w8", "4-6-8", "4-6-8:w4", "4-6-8:w5", "4-6-8:w7", "4-6-8:w8", "4-7-5", \
    "4-7-5:w4", "4-7-5:w5", "4-7-5:w6", "4-7-5:w8", "4-7-6", "4-7-6:w4", "4-7-6:w5", \
    "4-7-6:w6", "4-7-6:w8", "4-7-7", "4-7-7:w4", "4-7-7:w5", "4-7-7:w6", "4-7-7:w8", "4-7-8", \
    "4-7-8:w4", "4-7-8:w5", "4-7-8:w6", "4-7-8:w8", "4-8-5", "4-8-5:w4", "4-8-5:w5", \
    "4-8-5:w6", "4-8-5:w7", "4-8-6", "4-8-6:w4", "4-8-6:w5", "4-8-6:w6", "4-8-6:w7", "4-8-7", \
    "4-8-7:w4", "4-8-7:w5", "4-8-7:w6", "4-8-7:w7", "4-8-8", "4-8-8:w4", "4-8-8:w5", \
    "4-8-8:w6", "4-8-8:w7", "8-5-5", "8-5-5:w4", "8-5-5:w6", "8-5-5:w7", "8-5-5:w8", "8-5-6", \
    "8-5-6:w4", "8-5-6:w6", "8-5-6:w7", "8-5-6:w8", "8-5-7", "8-5-7:w4", "8-5-7:w6", \
    "8-5-7:w7", "8-5-7:w8", "8-5-8", "8-5-8:w4", "8-5-8:w6", "8-5-8:w7", "8-5-8:w8", "8-6-5", \
    "8-6-5:w4", "8-6-5:w5", "8-6-5:w7", "8-6-5:w8", "8-6-6", "8-6-6:w4", "8-6-6:w5", \
    "8-6-6:w7", "8-6-6:w8", "8-6-7", "8-6-7:w4", "8-6-7:w5", "8-6-7:w7", "8-6-7:w8", "8-6-8", \
    "8-6-8:w4", "8-6-8:w5", "8-6-8:w7", "8-6-8:w8", "8-7-5", "8-7-5:w4", "8-7-5:w5", \
    "8-7-5:w6", "8-7-5:w8", "8-7-6", "8-7-6:w4", "8-7-6:w5", "8-7-6:w6", "8-7-6:w8", "8-7-7", \
    "8-7-7:w4", "8-7-7:w5", "8-7-7:w6", "8-7-7:w8", "8-7-8", "8-7-8:w4", "8-7-8:w5", \
    "8-7-8:w6", "8-7-8:w8", "8-8-5", "8-8-5:w4", "8-8-5:w5", "8-8-5:w6", "8-8-5:w7", "8-8-6", \
    "8-8-6:w4", "8-8-6:w5", "8-8-6:w6", "8-8-6:w7", "8-8-7", "8-8-7:w4", "8-8-7:w5", \
    "8-8-7:w6", "8-8-7:w7", "8-8-8", "8-8-8:w4", "8-8-8:w5", "8-8-8:w6", "8-8-8:w7", NULL}}, \
    {"base", FIELD_TEXT, false, 0, 0, NULL}, \
    {"base_kinds", FIELD_TABLE, false, 0, 0, NULL}, \
    {"base_kinds.*", FIELD_TEXT, false, 0, 0, NULL}, \
    {"optimizer", FIELD_TEXT, false, 0, 0, (const char *const[]){"adamw", "sgd", "zo", NULL}}, \
    {"sequence_length", FIELD_NUMBER, false, 1, 8192, NULL}, \
    {"batch", FIELD_NUMBER, false, 1, 64, NULL}, \
    {"seed", FIELD_NUMBER, false, 0, 9223372036854775807, NULL}, \
    {"recompute", FIELD_TEXT, false, 0, 0, NULL}, \
    {"weights", FIELD_TEXT, false, 0, 0, NULL}, \
    {"operators", FIELD_TABLE, false, 0, 0, NULL}, \
    {"operators.*", FIELD_NUMBER, false, 0, 2147483647, NULL}, \
    {"planned_peak_bytes", FIELD_NUMBER, false, 0, 9223372036854775807, NULL}, \
    {"weights_bytes", FIELD_NUMBER, false, 0, 9223372036854775807, NULL}, \
    {"passes", FIELD_TEXTS, true, 0, 0, NULL}, \
    {"programs", FIELD_TABLE, false, 0, 0, NULL}, \
    {"programs.*", FIELD_OBJECT, false, 0, 0, NULL}, \
    {"programs.*.inputs", FIELD_TEXTS, false, 0, 0, NULL}, \
    {"programs.*.outputs", FIELD_TEXTS, false, 0, 0, NULL}, \
    {"programs.*.operators", FIELD_NUMBER, false, 0, 2147483647, NULL}, \
    {"base_losses", FIELD_TABLE, true, 0, 0, NULL}, \
    {"base_losses.*", FIELD_NUMBER, false, 0, 2147483647, NULL}, \
    {"calibration", FIELD_OBJECT, true, 0, 0, NULL}, \
    {"calibration.name", FIELD_TEXT, false, 0, 0, NULL}, \
    {"calibration.sha256", FIELD_TEXT, false, 0, 0, NULL}, \
    {"calibration.tokens", FIELD_NUMBER, false, 0, 2147483647, NULL}, \
    {"optimizer_settings", FIELD_TABLE, true, 0, 0, NULL}, \
    {"optimizer_settings.*", FIELD_NUMBER, false, 0, 2147483647, NULL}, \
    {"golden", FIELD_OBJECT, true, 0, 0, NULL}, \
    {"golden.seed", FIELD_NUMBER, false, 0, 9223372036854775807, NULL}, \
    {"golden.steps", FIELD_TEXTS, false, 0, 0, NULL}, \
    {"golden.target", FIELD_TEXT, false, 0, 0, NULL}, \
    {"files", FIELD_TABLE, false, 0, 0, NULL}, \
    {"files.*", FIELD_OBJECT, false, 0, 0, NULL}, \
    {"files.*.sha256", FIELD_TEXT, false, 0, 0, NULL}, \
    {"files.*.bytes", FIELD_NUMBER, false, 0, 9223372036854775807, NULL}, \
    {"gsqc_version", FIELD_TEXT, false, 0, 0, NULL},

#endif
