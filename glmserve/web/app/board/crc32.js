// CRC-32 as in zlib and PNG (reflected polynomial 0xedb88320).
const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? (byte >>> 1) ^ 0xedb88320 : byte >>> 1;
  return byte;
});

/** The checksum of bytes that follow others with the checksum `before`, as a number from 0 to 2**32 - 1. */
export function crc32(bytes, before = 0) {
  let rest = ~before;
  for (const byte of bytes) rest = TABLE[(rest ^ byte) & 0xff] ^ (rest >>> 8);
  return ~rest >>> 0;
}
