/** Addresses and prefixes for property tests: near the special ones more often than chance would have it. */
import fc from 'fast-check';
import { bitsOf, fromBytes } from '../../src/address/address.ts';
import { maskPrefix } from '../../src/address/prefix.ts';

const octet = fc.oneof(fc.integer({ min: 0, max: 255 }), fc.constantFrom(0, 1, 127, 255));
const group = fc.oneof(fc.constant(0), fc.constant(0), fc.integer({ min: 0, max: 0xffff }), fc.constantFrom(1, 0xffff));

const v4Bytes = fc.array(octet, { minLength: 4, maxLength: 4 }).map((octets) => Uint8Array.from(octets));
const v6Bytes = fc
  .array(group, { minLength: 8, maxLength: 8 })
  .map((groups) => Uint8Array.from(groups.flatMap((value) => [value >> 8, value & 0xff])));
const mappedBytes = v4Bytes.map((bytes) => Uint8Array.from([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, ...bytes]));

/** 4 or 16 bytes in network order. */
export const addressBytes = fc.oneof(v4Bytes, v6Bytes, mappedBytes);

const dotted = fc.array(octet, { minLength: 3, maxLength: 5 }).map((octets) => octets.join('.'));
const groupText = fc.oneof(
  group.map((value) => value.toString(16)),
  group.map((value) => value.toString(16).padStart(4, '0').toUpperCase()),
);
const groupsText = fc.array(groupText, { maxLength: 8 }).map((groups) => groups.join(':'));

/** Text that is an address, or nearly one. */
export const addressText = fc.oneof(
  dotted,
  groupsText,
  fc.tuple(groupsText, groupsText).map(([head, tail]) => `${head}::${tail}`),
  fc.tuple(groupsText, dotted).map(([head, tail]) => `${head}:${tail}`),
  fc.tuple(groupsText, dotted).map(([head, tail]) => `${head}::${tail}`),
  dotted.map((tail) => `::ffff:${tail}`),
);

/** Of both families and any length, host bits zero. */
export const prefixes = fc.tuple(addressBytes, fc.nat(128)).map(([bytes, length]) => {
  const address = fromBytes(bytes);
  return maskPrefix(address, Math.min(length, bitsOf(address.family)));
});
