/* SPDX-License-Identifier: Apache-2.0 */
/* Reads what a plan calls: kernels, functions and schedules. It trusts nothing in the file: every
 * call gives its kernel tensors of the right number, type and size, and binds every port. */
#include <string.h>

#include "memory.h"
#include "plan_parts.h"

static const struct {
    const char *name;
    size_t tensors;
} VALUE_KINDS[] = {VALUE_TENSORS};

/* [shape, type] -> number of elements and their size. */
static shape read_shape(yyjson_val *data) {
    if (yyjson_arr_size(data) != 2)
        json_fail(&plan_source, "a kernel's tensor is not [shape, type]");
    shape s = {type_bytes(json_text(&plan_source, yyjson_arr_get(data, 1), "a kernel's type")),
               json_shape(&plan_source, yyjson_arr_get(data, 0))};
    if (!s.item_bytes) json_fail(&plan_source, "a kernel has an input of no known type");
    return s;
}

/* The tensors of [kind, bits, tensors]. */
static yyjson_val *input_tensors(yyjson_val *value) {
    if (yyjson_arr_size(value) != 3) json_fail(&plan_source, "a kernel's input is not a list of 3");
    const char *kind = json_text(&plan_source, yyjson_arr_get(value, 0), "a kind");
    json_count(&plan_source, yyjson_arr_get(value, 1), "a width", MAXIMUM_BITS);
    yyjson_val *tensors = json_array(&plan_source, yyjson_arr_get(value, 2), "a kernel's input");
    for (size_t k = 0; k < sizeof VALUE_KINDS / sizeof *VALUE_KINDS; k++)
        if (!strcmp(kind, VALUE_KINDS[k].name) &&
            yyjson_arr_size(tensors) == VALUE_KINDS[k].tensors)
            return tensors;
    json_fail(&plan_source, "a kernel's input is of no known kind");
}

/* What numpy needs of a kernel and this runner does not. It is checked all the same, so that both
 * runtimes accept the same plans. */
static void check_unused(yyjson_val *data) {
    size_t position, last;
    yyjson_val *key, *value;
    yyjson_obj_foreach(json_object(&plan_source, data, "attributes"), position, last, key, value)
        json_text(&plan_source, key, "an attribute's name");
    yyjson_obj_foreach(json_object(&plan_source, data, "operators"), position, last, key, value) {
        json_text(&plan_source, key, "an operator's name");
        json_count(&plan_source, value, "a number of operators", MAXIMUM_COUNT);
    }
}

/* The inputs are values [kind, bits, tensors]. Their tensors, in order, are the kernel's first
 * arguments. */
void read_kernel(kernel *k, yyjson_val *data) {
    yyjson_val *inputs =
        json_array(&plan_source, yyjson_obj_get(data, "inputs"), "a kernel's inputs");
    k->op = json_text(&plan_source, yyjson_obj_get(data, "op"), "a kernel's op");
    check_unused(data);
    size_t total = 0, position, last, inner_position, inner_last;
    yyjson_val *value, *item;
    yyjson_arr_foreach(inputs, position, last, value)
        total += yyjson_arr_size(input_tensors(value));
    k->inputs = take(total, sizeof *k->inputs);
    yyjson_arr_foreach(inputs, position, last, value) {
        yyjson_arr_foreach(yyjson_arr_get(value, 2), inner_position, inner_last, item)
            k->inputs[k->input_count++] = read_shape(item);
    }
}

static void read_kernel_call(plan *p, const function *f, kernel_call *call, yyjson_val *data) {
    if (yyjson_arr_size(data) != 2) json_fail(&plan_source, "a call is not a list of 2");
    const char *name = json_text(&plan_source, yyjson_arr_get(data, 0), "a call's kernel");
    yyjson_val *references =
        json_array(&plan_source, yyjson_arr_get(data, 1), "a call's arguments");
    call->kernel = find_kernel(p, name);
    if (!call->kernel) json_fail(&plan_source, "unknown kernel %s", name);
    call->arguments = take(yyjson_arr_size(references), sizeof *call->arguments);
    size_t position, last;
    yyjson_val *item;
    yyjson_arr_foreach(references, position, last, item)
        call->arguments[call->count++] = read_reference(item, &f->locals, NULL);
    if (call->count < call->kernel->input_count || call->count > MAXIMUM_ARGUMENTS)
        json_fail(&plan_source, "%s is called with too few or too many tensors", name);
    for (uint32_t k = 0; k < call->kernel->input_count; k++) {
        const shape *expected = &call->kernel->inputs[k];
        const reference *r = &call->arguments[k];
        if (r->count != expected->count || r->target->item_bytes != expected->item_bytes)
            json_fail(&plan_source, "%s is called with %s, which has another shape or type", name,
                      r->target->name);
    }
}

void read_function(plan *p, function *f, yyjson_val *data) {
    yyjson_val *ports = json_object(&plan_source, data, "ports");
    yyjson_val *scratch = json_object(&plan_source, data, "scratch");
    f->locals.items =
        take(yyjson_obj_size(ports) + yyjson_obj_size(scratch), sizeof *f->locals.items);
    read_tensors(&f->locals, ports, PORT);
    f->ports = f->locals.count;
    for (uint32_t k = 0; k < f->ports; k++) f->locals.items[k].slot = k;
    read_tensors(&f->locals, scratch, SCRATCH);
    finish_table(&f->locals);
    f->scratch_bytes = json_count(&plan_source, yyjson_obj_get(data, "scratch_bytes"),
                                  "scratch_bytes", MAXIMUM_COUNT);
    check_region(&f->locals, SCRATCH, f->scratch_bytes);
    yyjson_val *calls =
        json_array(&plan_source, yyjson_obj_get(data, "calls"), "a function's calls");
    f->calls = take(yyjson_arr_size(calls), sizeof *f->calls);
    size_t position, last;
    yyjson_val *item;
    yyjson_arr_foreach(calls, position, last, item)
        read_kernel_call(p, f, &f->calls[f->call_count++], item);
}

static void read_copy(const plan *p, const schedule *s, function_call *call, yyjson_val *data) {
    if (yyjson_obj_size(data) != 2)
        json_fail(&plan_source, "a copy needs one source and one target");
    call->bindings = take(2, sizeof *call->bindings);
    reference *r = call->bindings;
    r[COPY_SOURCE] = read_reference(yyjson_obj_get(data, "source"), &s->activations, &p->buffers);
    r[COPY_TARGET] = read_reference(yyjson_obj_get(data, "target"), &s->activations, &p->buffers);
    if (r[0].count != r[1].count || r[0].target->item_bytes != r[1].target->item_bytes)
        json_fail(&plan_source, "copy between tensors of different size");
}

/* Inputs and outputs alone: what else has a name here may be a function's working memory. */
static void read_guard(const plan *p, function_call *call, yyjson_val *data) {
    reference r = read_reference(data, &p->buffers, NULL);
    if (r.target->kind != INPUT && r.target->kind != OUTPUT)
        json_fail(&plan_source, "the guard %s is no input and no output", r.target->name);
    if (r.count != 1 || r.target->item_bytes != sizeof(int32_t))
        json_fail(&plan_source, "the guard %s is not one int32", r.target->name);
    call->guard = r;
}

static void read_call(const plan *p, const schedule *s, function_call *call, yyjson_val *data) {
    size_t size = yyjson_arr_size(data);
    if (size != 2 && size != 3) json_fail(&plan_source, "a call is not a list of 2 or 3");
    if (size == 3) read_guard(p, call, yyjson_arr_get(data, 2));
    const char *name = json_text(&plan_source, yyjson_arr_get(data, 0), "a call's function");
    yyjson_val *bindings = yyjson_arr_get(data, 1), *key, *value;
    if (!yyjson_is_obj(bindings)) json_fail(&plan_source, "a call of %s has no bindings", name);
    if (!strcmp(name, COPY_NAME)) {
        read_copy(p, s, call, bindings);
        return;
    }
    call->function = find_function(p, name);
    if (!call->function) json_fail(&plan_source, "unknown function %s", name);
    call->bindings = take(call->function->ports, sizeof *call->bindings);
    size_t position, last;
    yyjson_obj_foreach(bindings, position, last, key, value) {
        const tensor *port =
            find_tensor(&call->function->locals, json_text(&plan_source, key, "a port"));
        if (!port || port->kind != PORT)
            json_fail(&plan_source, "%s has no port %s", name, yyjson_get_str(key));
        reference r = read_reference(value, &s->activations, &p->buffers);
        if (r.count != port->count || r.target->item_bytes != port->item_bytes)
            json_fail(&plan_source, "%s.%s is bound to %s, which has another shape or type", name,
                      port->name, r.target->name);
        call->bindings[port->slot] = r;
    }
    for (uint32_t k = 0; k < call->function->ports; k++)
        if (!call->bindings[k].target)
            json_fail(&plan_source, "a call of %s leaves a port unbound", name);
}

void read_schedule(plan *p, schedule *s, yyjson_val *data) {
    yyjson_val *activations = json_object(&plan_source, data, "activations");
    s->activations.items = take(yyjson_obj_size(activations), sizeof *s->activations.items);
    read_tensors(&s->activations, activations, ACTIVATION);
    finish_table(&s->activations);
    s->activation_bytes =
        json_count(&plan_source, yyjson_obj_get(data, "activation_bytes"), "activation_bytes",
                   MAXIMUM_COUNT);
    check_region(&s->activations, ACTIVATION, s->activation_bytes);
    yyjson_val *calls =
        json_array(&plan_source, yyjson_obj_get(data, "calls"), "a schedule's calls");
    s->calls = take(yyjson_arr_size(calls), sizeof *s->calls);
    size_t position, last;
    yyjson_val *item;
    yyjson_arr_foreach(calls, position, last, item) {
        function_call *call = &s->calls[s->call_count++];
        read_call(p, s, call, item);
        if (call->function && call->function->scratch_bytes > s->scratch_bytes)
            s->scratch_bytes = call->function->scratch_bytes;
    }
    /* Activations lie behind the scratch memory of the function that needs most. */
    s->scratch_bytes = (s->scratch_bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (s->scratch_bytes + s->activation_bytes > p->arena_bytes)
        p->arena_bytes = s->scratch_bytes + s->activation_bytes;
}
