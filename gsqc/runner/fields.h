/* SPDX-License-Identifier: Apache-2.0 */
/* A manifest's fields against the rules that Python writes into format.h. */
#ifndef GSQC_FIELDS_H
#define GSQC_FIELDS_H

#include "json.h"

/* Fails unless every field of the manifest is what its rule says. */
void check_manifest(const json_source *source, yyjson_val *manifest);

#endif
