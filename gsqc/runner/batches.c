/* SPDX-License-Identifier: Apache-2.0 */
/* Opens a token file. It trusts nothing in it: every number lies in its range, so that a step never
 * reads outside the vocabulary or the sequences and never divides by zero. */
#include "batches.h"

#include <fcntl.h>
#include <inttypes.h>
#include <string.h>

#include "error.h"
#include "requirements.h"

static const char HINT[] = "make it for this bundle with gsqc tokens";
const char *const part_names[SEQUENCE_PARTS] = {SEQUENCE_PART_NAMES};
const char *const step_inputs[STEP_INPUTS] = {STEP_INPUT_NAMES};

static const int32_t *read_numbers(const tensor_file *file, const char *name, uint64_t count,
                                   int32_t least, int32_t greatest) {
    const int32_t *values = (const int32_t *)(void *)tensor_data(file, name, sizeof *values, count);
    for (uint64_t k = 0; k < count; k++)
        if (values[k] < least || values[k] > greatest)
            fail(HINT, "%s has %s outside [%d, %d]", file->path, name, least, greatest);
    return values;
}

static void check_text(const tensor_file *file, const char *key, const char *expected) {
    const char *text = tensor_metadata(file, key);
    if (!text || !expected || strcmp(text, expected))
        fail(HINT, "%s was made for another bundle (its %s differs)", file->path, key);
}

/* Python requires the same (runtime/requirements.py). The numbers are below `length`. */
static bool positions_count_up(const int32_t *positions, uint32_t length) {
    bool good = positions[0] == 0;
    for (uint32_t i = 1; i < length; i++)
        good = good && (positions[i] == 0 || positions[i] == positions[i - 1] + 1);
    return good;
}

static void check_positions(const batches *b, const char *path) {
    for (uint64_t k = 0; k < b->sequences; k++)
        if (!positions_count_up(b->parts[POSITIONS] + k * b->length, b->length))
            fail(HINT, "%s has positions that do not count up from 0 in each record", path);
}

/* A batch without a token that counts would divide by zero. */
static void check_weights(const batches *b, const char *path) {
    for (uint64_t step = 0; step < b->steps; step++) {
        int64_t sum = 0;
        for (uint32_t k = 0; k < b->batch; k++) {
            const int32_t *weights =
                b->parts[WEIGHTS] + (uint64_t)b->order[step * b->batch + k] * b->length;
            for (uint32_t i = 0; i < b->length; i++) sum += weights[i];
        }
        if (!sum)
            fail("give records a completion that fits the sequence length",
                 "%s: the batch of step %" PRIu64 " has no token with a loss", path, step + 1);
    }
}

static int32_t greatest_of(const batches *b, int part) {
    if (part == WEIGHTS) return WEIGHT_ONE;
    return (int32_t)(part == POSITIONS ? b->length : b->vocabulary) - 1;
}

void open_batches(batches *b, const bundle *owner, const char *path) {
    input in;
    if (!is_there(AT_FDCWD, path))
        fail("make one with gsqc tokens BUNDLE --data FILE -o FILE", "no such file: %s", path);
    if (!open_input(&in, AT_FDCWD, path, true) || !hold_file(&b->file, path, &in))
        fail(READABLE, "cannot read %s: %s", path, file_problem(AT_FDCWD, path));
    read_batches(b, owner, path, b->file.map);
}

void read_batches(batches *b, const bundle *owner, const char *path, mapping map) {
    tensor_file file;
    open_tensors(&file, path, map, HINT);
    const char *format = tensor_metadata(&file, "format");
    if (!format || strcmp(format, TOKENS_FORMAT))
        fail(HINT, "%s is not a token file of format %s", path, TOKENS_FORMAT);
    /* A bundle may have no tokenizer: a check makes its tokens at random. */
    const char *tokenizer = bundle_hash(owner, TOKENIZER_FILE);
    check_text(&file, "tokenizer_sha256", tokenizer ? tokenizer : "");
    check_text(&file, "optimizer", yyjson_get_str(yyjson_obj_get(owner->manifest, "optimizer")));
    b->settings = tensor_metadata(&file, "settings");
    if (!b->settings) fail(HINT, "%s has no settings", path);
    b->length = owner->sequence_length;
    b->vocabulary = owner->vocabulary;
    uint64_t numbers = tensor_count(&file, part_names[0], sizeof(int32_t));
    b->steps = tensor_count(&file, step_inputs[0], sizeof(int32_t));
    b->sequences = numbers / b->length;
    if (!b->sequences || b->sequences > INT32_MAX || !b->steps ||
        b->steps > MAXIMUM_STEPS || numbers % b->length)
        fail(HINT, "%s has no whole sequences of %u tokens, no steps or too many", path, b->length);
    for (int k = 0; k < SEQUENCE_PARTS; k++)
        b->parts[k] = read_numbers(&file, part_names[k], numbers, 0, greatest_of(b, k));
    check_positions(b, path);
    uint64_t places = tensor_count(&file, "order", sizeof(int32_t));
    if (!places || places % b->steps || places / b->steps > MAXIMUM_SEQUENCES)
        fail(HINT, "%s has steps without sequences or with too many", path);
    b->batch = (uint32_t)(places / b->steps);
    b->order = read_numbers(&file, "order", places, 0, (int32_t)b->sequences - 1);
    for (int k = 0; k < STEP_INPUTS; k++)
        b->inputs[k] = read_numbers(&file, step_inputs[k], b->steps, k % 2 ? -EXPONENT_END : 0,
                                    k % 2 ? EXPONENT_END : MANTISSA_END - 1);
    check_weights(b, path);
    bool clips = false;
    for (uint64_t step = 0; step < b->steps; step++)
        clips = clips || b->inputs[CLIP_MANTISSA][step];
    if (clips && steps_forward(owner))
        fail(HINT, "%s limits the norm of gradients, and the bundle's optimizer takes none", path);
    b->sums = clips || b->batch > 1;
}

void copy_sequence(const batches *b, uint64_t step, uint32_t number,
                   int32_t *const parts[SEQUENCE_PARTS]) {
    /* Read once: between two reads another program could write to the file. */
    uint32_t place = *(const volatile uint32_t *)(const void *)&b->order[step * b->batch + number];
    bool good = place < b->sequences;
    for (int k = 0; good && k < SEQUENCE_PARTS; k++) {
        memcpy(parts[k], b->parts[k] + (uint64_t)place * b->length, b->length * sizeof(int32_t));
        for (uint32_t i = 0; i < b->length; i++)
            good = good && parts[k][i] >= 0 && parts[k][i] <= greatest_of(b, k);
    }
    good = good && positions_count_up(parts[POSITIONS], b->length);
    if (!good)
        fail("put the whole file back, and run the same command again",
             "%s was changed while it was used; the last saved state is whole", b->file.path);
}
