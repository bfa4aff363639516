/**
 * Protobuf's wire format (protobuf.dev/programming-guides/encoding), as far as Falco's two answers need it: read field by
 * field, so that one message without sense is one counted message and not the end of a stream.
 */

/** 2²⁹ − 1. */
const largestNumber = 536_870_911;

/** Steps through a message's fields, in the order they came. Throws a RangeError where the bytes are no message. */
export class Fields {
  readonly #bytes: Buffer;
  readonly #end: number;
  #at: number;
  /** Of the field that it stands at. */
  number = 0;
  /** `number`: a varint; `bytes`: whatever has a length; `fixed`: 32 or 64 bits, which nothing here has. */
  type: 'number' | 'bytes' | 'fixed' = 'fixed';
  /** Of a varint, as exact as a double is. Negative ones come as 2⁶⁴ less the number, beyond what anything here may be. */
  value = 0;
  /** Where its bytes begin and end. */
  from = 0;
  to = 0;

  constructor(bytes: Buffer, from = 0, to: number = bytes.length) {
    this.#bytes = bytes;
    this.#at = from;
    this.#end = to;
  }

  /** False at the end. */
  next(): boolean {
    if (this.#at >= this.#end) return false;
    const key = this.#varint();
    this.number = Math.floor(key / 8);
    if (this.number < 1 || this.number > largestNumber) throw new RangeError('a field without a number');
    switch (key % 8) {
      case 0:
        this.type = 'number';
        this.value = this.#varint();
        return true;
      case 1:
        return this.#skip('fixed', 8);
      case 2:
        return this.#skip('bytes', this.#varint());
      case 5:
        return this.#skip('fixed', 4);
      default:
        // Groups (3 and 4) are of a protobuf before Falco's.
        throw new RangeError('a field of no type');
    }
  }

  /** Its bytes as text; what is no UTF-8 becomes U+FFFD. */
  text(): string {
    return this.#bytes.toString('utf8', this.from, this.to);
  }

  #skip(type: 'bytes' | 'fixed', length: number): true {
    this.type = type;
    this.from = this.#at;
    this.to = this.#at + length;
    if (this.to > this.#end) throw new RangeError('a field longer than its message');
    this.#at = this.to;
    return true;
  }

  /** At most ten bytes. */
  #varint(): number {
    let value = 0;
    let weight = 1;
    for (let n = 0; n < 10; n++) {
      if (this.#at >= this.#end) throw new RangeError('a number that does not end');
      const byte = this.#bytes[this.#at++] ?? 0;
      value += (byte & 0x7f) * weight;
      if (byte < 0x80) return value;
      weight *= 128;
    }
    throw new RangeError('a number of more than 64 bits');
  }
}
