/**
 * Protobuf's wire format (protobuf.dev/programming-guides/encoding), as far as Falco's two answers need it: read field by
 * field, so that one message without sense is one counted message and not the end of a stream.
 */
export interface WireField {
  readonly number: number;
  /** A varint, as exact as a double is; the bytes of whatever has a length; null for a fixed 32 or 64 bits. */
  readonly value: number | Buffer | null;
}

/** Every field of a message in the order it came. Throws a RangeError where the bytes are no message. */
export function* readFields(bytes: Buffer): Generator<WireField> {
  const cursor = { at: 0 };
  while (cursor.at < bytes.length) {
    const key = readVarint(bytes, cursor);
    const number = Math.floor(key / 8);
    if (number < 1 || number > largestNumber) throw new RangeError('a field without a number');
    yield { number, value: readValue(bytes, cursor, key % 8) };
  }
}

/** 2²⁹ − 1. */
const largestNumber = 536_870_911;

interface Cursor {
  at: number;
}

function readValue(bytes: Buffer, cursor: Cursor, type: number): number | Buffer | null {
  switch (type) {
    case 0:
      return readVarint(bytes, cursor);
    case 1:
      take(bytes, cursor, 8);
      return null;
    case 2:
      return take(bytes, cursor, readVarint(bytes, cursor));
    case 5:
      take(bytes, cursor, 4);
      return null;
    default:
      // Groups (3 and 4) are of a protobuf before Falco's.
      throw new RangeError('a field of no type');
  }
}

function take(bytes: Buffer, cursor: Cursor, length: number): Buffer {
  const end = cursor.at + length;
  if (end > bytes.length) throw new RangeError('a field longer than its message');
  const taken = bytes.subarray(cursor.at, end);
  cursor.at = end;
  return taken;
}

/** At most ten bytes. Negative numbers come as 2⁶⁴ less the number, beyond what anything here may be. */
function readVarint(bytes: Buffer, cursor: Cursor): number {
  let value = 0;
  let weight = 1;
  for (let n = 0; n < 10; n++) {
    const byte = bytes[cursor.at++];
    if (byte === undefined) throw new RangeError('a number that does not end');
    value += (byte & 0x7f) * weight;
    if (byte < 0x80) return value;
    weight *= 128;
  }
  throw new RangeError('a number of more than 64 bits');
}
