/**
 * IP addresses in one canonical form.
 *
 * Text in: RFC 4291 section 2.2 for IPv6, four decimal octets without leading zeros for IPv4. Nothing else: no zone ids, no
 * `010.0.0.1` (octal to inet_aton, decimal to others), no `127.1`, no brackets, no space. An IPv4-mapped IPv6 address
 * (`::ffff:192.0.2.1`) is the IPv4 address: the packets it stands for carry an IPv4 header.
 * Text out: RFC 5952.
 */
import { FalcodropError } from '../errors.ts';

export interface Address {
  readonly family: 4 | 6;
  /** Network order, 4 or 16 bytes. Never written to. */
  readonly bytes: Uint8Array;
}

export const bitsOf = (family: 4 | 6): number => (family === 4 ? 32 : 128);

/** Longest text of an IPv6 address: eight groups with an embedded IPv4 address, 45 characters. */
const longestText = 45;

/** Null when the text is no address. For text whose form is already in doubt (alerts); people's input goes through {@link parseAddress}. */
export function readAddress(text: string): Address | null {
  if (text.length > longestText) return null;
  if (!text.includes(':')) {
    const bytes = readIpv4(text);
    return bytes === null ? null : { family: 4, bytes };
  }
  const bytes = readIpv6(text);
  return bytes === null ? null : fromBytes(bytes);
}

/** Throws `address_invalid`, naming what is wrong. */
export function parseAddress(text: string): Address {
  const address = readAddress(text);
  if (address !== null) return address;
  throw new FalcodropError(
    'address_invalid',
    `${quote(text)} is not an IP address${whyNot(text)}`,
    'write 192.0.2.1 or 2001:db8::1',
  );
}

/** From 4 or 16 bytes in network order; an IPv4-mapped IPv6 address becomes IPv4. RangeError for another length. */
export function fromBytes(bytes: Uint8Array): Address {
  if (bytes.length === 4) return { family: 4, bytes };
  if (bytes.length !== 16) throw new RangeError(`an address has 4 or 16 bytes, not ${bytes.length}`);
  if (isV4Mapped(bytes)) return { family: 4, bytes: bytes.subarray(12) };
  return { family: 6, bytes };
}

export function isV4Mapped(bytes: Uint8Array): boolean {
  for (let i = 0; i < 10; i++) if (bytes[i] !== 0) return false;
  return bytes[10] === 0xff && bytes[11] === 0xff;
}

export function sameAddress(a: Address, b: Address): boolean {
  return a.family === b.family && compareBytes(a.bytes, b.bytes) === 0;
}

/** Order of people: IPv4 before IPv6, then by value. */
export function compareAddresses(a: Address, b: Address): number {
  return a.family - b.family || compareBytes(a.bytes, b.bytes);
}

function compareBytes(a: Uint8Array, b: Uint8Array): number {
  for (let i = 0; i < a.length; i++) {
    const difference = (a[i] ?? 0) - (b[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

export function formatAddress(address: Address): string {
  return address.family === 4 ? address.bytes.join('.') : formatIpv6(address.bytes);
}

/** RFC 5952: lower case, the longest run of two or more zero groups (the first of equals) as "::". */
function formatIpv6(bytes: Uint8Array): string {
  const groups: number[] = [];
  for (let i = 0; i < 16; i += 2) groups.push(((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0));
  let start = -1;
  let length = 1;
  for (let i = 0; i < 8; ) {
    let end = i;
    while (end < 8 && groups[end] === 0) end++;
    if (end - i > length) {
      start = i;
      length = end - i;
    }
    i = end + 1;
  }
  const hex = (part: number[]) => part.map((group) => group.toString(16)).join(':');
  if (start < 0) return hex(groups);
  return `${hex(groups.slice(0, start))}::${hex(groups.slice(start + length))}`;
}

function readIpv4(text: string): Uint8Array | null {
  const bytes = new Uint8Array(4);
  let octet = 0;
  let digits = 0;
  let value = 0;
  for (let i = 0; i <= text.length; i++) {
    const code = i < text.length ? text.charCodeAt(i) : 0x2e;
    if (code === 0x2e) {
      if (digits === 0 || octet === 4) return null;
      bytes[octet++] = value;
      digits = 0;
      value = 0;
      continue;
    }
    if (code < 0x30 || code > 0x39) return null;
    if (digits > 0 && value === 0) return null; // a leading zero
    value = value * 10 + (code - 0x30);
    digits++;
    if (value > 255) return null;
  }
  return octet === 4 ? bytes : null;
}

function readIpv6(text: string): Uint8Array | null {
  const gap = text.indexOf('::');
  if (gap >= 0 && text.indexOf('::', gap + 1) >= 0) return null;
  if (gap < 0) {
    const groups = readGroups(text, true);
    return groups?.length === 16 ? Uint8Array.from(groups) : null;
  }
  const head = readGroups(text.slice(0, gap), false);
  const tail = readGroups(text.slice(gap + 2), true);
  // "::" stands for one group at least (RFC 4291 2.2)
  if (head === null || tail === null || head.length + tail.length > 14) return null;
  const bytes = new Uint8Array(16);
  bytes.set(head);
  bytes.set(tail, 16 - tail.length);
  return bytes;
}

/** Bytes of groups separated by ":"; only the last may be a dotted IPv4 address. */
function readGroups(text: string, dottedEnd: boolean): number[] | null {
  if (text === '') return [];
  const bytes: number[] = [];
  const groups = text.split(':');
  for (const [index, group] of groups.entries()) {
    if (/^[0-9a-fA-F]{1,4}$/.test(group)) {
      const value = Number.parseInt(group, 16);
      bytes.push(value >> 8, value & 0xff);
    } else if (dottedEnd && index === groups.length - 1) {
      const dotted = readIpv4(group);
      if (dotted === null) return null;
      bytes.push(...dotted);
    } else {
      return null;
    }
  }
  return bytes;
}

function whyNot(text: string): string {
  if (text.includes('%')) return ': a zone id names an interface of one host, a block holds on all';
  if (/^[0-9.]+$/.test(text) && /(^|\.)0\d/.test(text))
    return ': an octet with a leading zero is octal to some programs and decimal to others';
  if (text.includes('/')) return ': it is a prefix';
  return '';
}

/** For messages: control characters made visible, cut to 60 characters. */
export function quote(text: string): string {
  const short = text.length > 60 ? `${text.slice(0, 57)}...` : text;
  return JSON.stringify(short).replace(
    /[\u007f-\u009f\u2028-\u202e\u2066-\u2069]/g,
    (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
