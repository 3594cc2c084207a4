/*
 * Purpose: what the two halves of lb/ports make for each other.
 * Thread:  any.
 * Owns:    see ports.h.
 * Fails:   never.
 */
#pragma once

#include "lb/ports/ports.h"

void ports_tally_put(struct ports_tally *tally);
