/*
 * Purpose: bytes as people write them: "ping" stands for itself, "hex:ffff ff01" for four bytes.
 * Thread:  any.
 * Owns:    nothing.
 * Fails:   -EINVAL (no pairs of hexadecimal digits behind "hex:") or -E2BIG; the size is untouched
 *          then, the bytes are not.
 */
#pragma once

#include "common/base.h"

#include <stdint.h>

/*
 * Spaces may stand between the pairs of digits, and do not count. "" and "hex:" are no bytes. A
 * text that begins with "hex:" itself must be written in digits.
 */
must_check int payload_parse(const char *text, uint8_t *out, size_t room, size_t *out_size);
