/**
 * Prefixes (CIDR, RFC 4632 and RFC 4291 2.3): an address whose host bits are zero, and a length in bits.
 * A /32 or /128 is the address itself and printed without a length. An IPv4-mapped prefix of /96 or longer is IPv4.
 */
import { FalcodropError } from '../errors.ts';
import {
  type Address,
  bitsOf,
  compareAddresses,
  formatAddress,
  fromBytes,
  isV4Mapped,
  parseAddress,
  quote,
  readAddress,
} from './address.ts';

export interface Prefix {
  /** Host bits are zero. */
  readonly address: Address;
  /** 0…32 or 0…128 bits. */
  readonly length: number;
}

/** A whole address as a prefix. */
export function hostPrefix(address: Address): Prefix {
  return { address, length: bitsOf(address.family) };
}

export function isHost(prefix: Prefix): boolean {
  return prefix.length === bitsOf(prefix.address.family);
}

/**
 * An address or CIDR as people write it. Throws `address_invalid`, or `prefix_host_bits` naming the CIDR that was probably
 * meant: a block of `192.0.2.77/24` may be a slip for the address, so it is not rounded in silence.
 */
export function parsePrefix(text: string): Prefix {
  const slash = text.indexOf('/');
  if (slash < 0) return hostPrefix(parseAddress(text));
  const addressText = text.slice(0, slash);
  const lengthText = text.slice(slash + 1);
  const address = parseAddress(addressText);
  // Lengths count in the family that was written: ::ffff:192.0.2.0/120 is 192.0.2.0/24.
  const mapped = address.family === 4 && addressText.includes(':');
  const written = mapped ? 128 : bitsOf(address.family);
  const length = /^(0|[1-9]\d{0,2})$/.test(lengthText) ? Number(lengthText) : -1;
  if (length < 0 || length > written) {
    throw new FalcodropError(
      'address_invalid',
      `${quote(text)}: the prefix length must be 0 to ${written}`,
      'write 192.0.2.0/24 or 2001:db8::/32',
    );
  }
  if (mapped && length < 96) {
    throw new FalcodropError(
      'address_invalid',
      `${quote(text)} covers more than the IPv4-mapped addresses`,
      'write the IPv4 prefix itself, or an IPv6 prefix',
    );
  }
  const prefix = { address, length: mapped ? length - 96 : length };
  const clean = maskPrefix(prefix.address, prefix.length);
  if (compareAddresses(clean.address, address) !== 0) {
    throw new FalcodropError(
      'prefix_host_bits',
      `${quote(text)} has bits set beyond its length`,
      `write ${formatPrefix(clean)} for the prefix, or ${formatAddress(address)} for the address alone`,
    );
  }
  return prefix;
}

/** Null when the text is neither an address nor a CIDR without host bits. */
export function readPrefix(text: string): Prefix | null {
  if (!text.includes('/')) {
    const address = readAddress(text);
    return address === null ? null : hostPrefix(address);
  }
  try {
    return parsePrefix(text);
  } catch {
    return null;
  }
}

/** The prefix of that length which holds the address: host bits set to zero. An IPv4-mapped result becomes IPv4. */
export function maskPrefix(address: Address, length: number): Prefix {
  const bytes = Uint8Array.from(address.bytes);
  const whole = length >> 3;
  if (whole < bytes.length) {
    bytes[whole] = (bytes[whole] ?? 0) & (0xff00 >> (length & 7));
    bytes.fill(0, whole + 1);
  }
  if (bytes.length === 16 && length >= 96 && isV4Mapped(bytes))
    return { address: fromBytes(bytes), length: length - 96 };
  return { address: { family: address.family, bytes }, length };
}

export function formatPrefix(prefix: Prefix): string {
  const text = formatAddress(prefix.address);
  return isHost(prefix) ? text : `${text}/${prefix.length}`;
}

/** True when every address of `inner` lies in `outer`. */
export function covers(outer: Prefix, inner: Prefix): boolean {
  return (
    outer.address.family === inner.address.family &&
    outer.length <= inner.length &&
    sameBits(outer.address.bytes, inner.address.bytes, outer.length)
  );
}

export function contains(prefix: Prefix, address: Address): boolean {
  return prefix.address.family === address.family && sameBits(prefix.address.bytes, address.bytes, prefix.length);
}

export function overlaps(a: Prefix, b: Prefix): boolean {
  return a.length <= b.length ? covers(a, b) : covers(b, a);
}

function sameBits(a: Uint8Array, b: Uint8Array, bits: number): boolean {
  const whole = bits >> 3;
  for (let i = 0; i < whole; i++) if (a[i] !== b[i]) return false;
  const rest = bits & 7;
  return rest === 0 || (((a[whole] ?? 0) ^ (b[whole] ?? 0)) & (0xff00 >> rest) & 0xff) === 0;
}

/** IPv4 before IPv6, then by address, then the wider first. */
export function comparePrefixes(a: Prefix, b: Prefix): number {
  return compareAddresses(a.address, b.address) || a.length - b.length;
}
