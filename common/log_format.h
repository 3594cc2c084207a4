/*
 * Purpose: turns what is to be logged into one line of text or of JSON.
 * Thread:  any (the time's text is cached per thread).
 * Owns:    nothing: the buffer is the caller's.
 * Fails:   never: what does not fit is cut off, and the line says so.
 */
#pragma once

#include "common/log.h"

struct log_record {
    uint64_t wall_us; /* since 1970 */
    enum log_level level;
    const char *event;
    const char *thread; /* NULL leaves it out */
    const struct log_field *fields;
    size_t count;
};

/*
 * Writes the line with its newline and without a NUL, and returns its length, LOG_LINE_MAX at most.
 * There is no other newline in it, whatever the values hold.
 *
 * Text: a value stands bare when it is printable ASCII without space, quote, backslash and '=', and
 * not empty; else in double quotes. There \" \\ \n \t and \xNN are one byte each. They are used for
 * control characters, for bytes that are not UTF-8, and for characters that would move a terminal's
 * cursor, end a line or turn the writing around (U+0080 to 9F, U+2028 to 202E, U+2066 to 2069).
 *
 * JSON (RFC 8259): members time, level, event, the fields. It is always valid: the same characters
 * are \" \\ \n \t and \uNNNN, and each byte that is not UTF-8 becomes \ufffd.
 *
 * A line that was cut ends in cut=true, or has "cut":true; a value is never cut inside of a
 * character or an escape.
 */
size_t log_format_line(char line[LOG_LINE_MAX], enum log_format format,
                       const struct log_record *record);
