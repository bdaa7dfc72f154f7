/* SPDX-License-Identifier: Apache-2.0 */
/* sha2.c includes what libmd's own build generates; for SHA-256 alone nothing is needed. */
