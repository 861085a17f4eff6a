// Reads msgpack: as much of it as recordings have.

/** One value out of bytes; raises RangeError if they end too early. */
export function decode(bytes) {
  return new Reader(bytes).value();
}

class Reader {
  constructor(bytes) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.at = 0;
  }

  value() {
    const type = this.number("Uint8", 1);
    if (type < 0x80) return type;
    if (type < 0x90) return this.map(type & 15);
    if (type < 0xa0) return this.list(type & 15);
    if (type < 0xc0) return this.text(type & 31);
    if (type >= 0xe0) return type - 256;
    return this.long(type);
  }

  long(type) {
    const size = 1 << (type & 3);
    if (type === 0xc0) return null;
    if (type === 0xc2 || type === 0xc3) return type === 0xc3;
    if (type >= 0xc4 && type <= 0xc6) return this.slice(this.length(type - 0xc4));
    if (type === 0xca) return this.number("Float32", 4);
    if (type === 0xcb) return this.number("Float64", 8);
    if (type >= 0xcc && type <= 0xcf) return size === 8 ? this.big("BigUint64") : this.number(`Uint${8 * size}`, size);
    if (type >= 0xd0 && type <= 0xd3) return size === 8 ? this.big("BigInt64") : this.number(`Int${8 * size}`, size);
    if (type >= 0xd9 && type <= 0xdb) return this.text(this.length(type - 0xd9));
    if (type === 0xdc || type === 0xdd) return this.list(this.length(type - 0xdb));
    if (type === 0xde || type === 0xdf) return this.map(this.length(type - 0xdd));
    throw new RangeError(`msgpack type ${type}`);
  }

  number(kind, size) {
    const value = this.view[`get${kind}`](this.at);
    this.at += size;
    return value;
  }

  big(kind) {
    return Number(this.number(kind, 8));
  }

  /** A length of 1, 2 or 4 bytes. */
  length(log) {
    return this.number(`Uint${8 << log}`, 1 << log);
  }

  slice(size) {
    if (this.at + size > this.bytes.length) throw new RangeError("the bytes end too early");
    this.at += size;
    return this.bytes.subarray(this.at - size, this.at);
  }

  text(size) {
    return new TextDecoder().decode(this.slice(size));
  }

  list(size) {
    return Array.from({ length: size }, () => this.value());
  }

  map(size) {
    return Object.fromEntries(Array.from({ length: size }, () => [this.value(), this.value()]));
  }
}
