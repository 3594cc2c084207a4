/*
 * Purpose: the CRC-32C (Castagnoli) checksum of bytes, as iSCSI and the PROXY protocol have it.
 * Thread:  any.
 * Owns:    nothing.
 * Fails:   cannot.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/*
 * The checksum of some bytes that follow others whose checksum is `before`; 0 where there are none
 * (RFC 3720 appendix B.4; "123456789" has 0xE3069283).
 */
uint32_t crc32c(uint32_t before, const uint8_t *bytes, size_t size);
