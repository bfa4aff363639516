/**
 * Bytes of the maps' keys and values ↔ typed values. Offsets come from the BPF object's BTF (layout.generated.ts).
 * amd64 and arm64 are both little endian; addresses stay in network order.
 */
import { bitsOf, fromBytes } from '../address/address.ts';
import type { Port, Ports } from '../address/port.ts';
import { isHost, type Prefix } from '../address/prefix.ts';
import { block_owner, layout, NEVER_DROP_PORTS, SCOPE_PORTS } from './layout.generated.ts';

export * from './layout.generated.ts';

export const never = 0n;
export const forEver = 2n ** 64n - 1n;

export type OwnerKind = 'hand' | 'policy' | 'feed';

/** An entry as the kernel holds it. Ends in drop-clock ns, {@link never} or {@link forEver}. */
export interface BlockValue {
  readonly dropUntil: bigint;
  readonly countUntil: bigint;
  readonly action: number;
  /** Bits of `block_owner`. */
  readonly owners: number;
  /** Row of `scopes`; 0 = every port. */
  readonly scope: number;
  readonly prefixLength: number;
  readonly packets: bigint;
  readonly bytes: bigint;
  /** Drop-clock ns of the last packet, 0 = never. */
  readonly lastSeen: bigint;
}

export const ownerBits: Readonly<Record<OwnerKind, number>> = {
  hand: block_owner.OWNER_HAND,
  policy: block_owner.OWNER_POLICY,
  feed: block_owner.OWNER_FEED,
};

/** An entry that a hand ended while the ledger could not be told; kept until a reconcile has written that down. */
export function isWithdrawn({ dropUntil, countUntil, owners }: BlockValue, now: bigint): boolean {
  return (owners & block_owner.OWNER_WITHDRAWN) !== 0 && dropUntil <= now && countUntil <= now;
}

export function ownerKinds(bits: number): OwnerKind[] {
  return (Object.keys(ownerBits) as OwnerKind[]).filter((kind) => (bits & ownerBits[kind]) !== 0);
}

const block = layout.block.members;

export function encodeBlock(value: BlockValue): Buffer {
  const bytes = Buffer.alloc(layout.block.size);
  bytes.writeBigUInt64LE(value.dropUntil, block.drop_until[0]);
  bytes.writeBigUInt64LE(value.countUntil, block.count_until[0]);
  bytes.writeUInt8(value.action, block.action[0]);
  bytes.writeUInt8(value.owners, block.owners[0]);
  bytes.writeUInt16LE(value.scope, block.scope[0]);
  bytes.writeUInt8(value.prefixLength, block.prefix_length[0]);
  bytes.writeBigUInt64LE(value.packets, block.packets[0]);
  bytes.writeBigUInt64LE(value.bytes, block.bytes[0]);
  bytes.writeBigUInt64LE(value.lastSeen, block.last_seen[0]);
  return bytes;
}

/** `offset`: where the value begins, for the buffers of batch calls. */
export function decodeBlock(bytes: Buffer, offset = 0): BlockValue {
  return {
    dropUntil: bytes.readBigUInt64LE(offset + block.drop_until[0]),
    countUntil: bytes.readBigUInt64LE(offset + block.count_until[0]),
    action: bytes.readUInt8(offset + block.action[0]),
    owners: bytes.readUInt8(offset + block.owners[0]),
    scope: bytes.readUInt16LE(offset + block.scope[0]),
    prefixLength: bytes.readUInt8(offset + block.prefix_length[0]),
    packets: bytes.readBigUInt64LE(offset + block.packets[0]),
    bytes: bytes.readBigUInt64LE(offset + block.bytes[0]),
    lastSeen: bytes.readBigUInt64LE(offset + block.last_seen[0]),
  };
}

/** The hash's key is the address; a trie's is the length (u32) and the address. */
export function keyOf(target: Prefix): Uint8Array {
  return isHost(target) ? target.address.bytes : trieKey(target);
}

export function trieKey({ address, length }: Prefix): Buffer {
  const { size, members } = address.family === 4 ? layout.cidr_v4 : layout.cidr_v6;
  const key = Buffer.alloc(size);
  key.writeUInt32LE(length, members.prefix_length[0]);
  key.set(address.bytes, members.address[0]);
  return key;
}

/** Address (no copy) and length of a trie's key. What other tools wrote may be longer than an address: no packet meets that. */
export function splitTrieKey(key: Buffer): { readonly bytes: Buffer; readonly length: number } {
  const { prefix_length, address } = (key.length === layout.cidr_v4.size ? layout.cidr_v4 : layout.cidr_v6).members;
  return {
    bytes: key.subarray(address[0], address[0] + address[1]),
    length: key.readUInt32LE(prefix_length[0]),
  };
}

/** The inverse of {@link keyOf}; copies, for batch buffers are reused. */
export function targetOf(key: Buffer, trie: boolean): Prefix {
  if (!trie) {
    const address = fromBytes(Uint8Array.from(key));
    return { address, length: bitsOf(address.family) };
  }
  const { bytes, length } = splitTrieKey(key);
  return { address: fromBytes(Uint8Array.from(bytes)), length };
}

const change = layout.change.members;

/** `struct change`: the arguments of the change programs. */
export function encodeChange(
  operation: number,
  target: Prefix,
  value: Pick<BlockValue, 'dropUntil' | 'countUntil' | 'action' | 'owners' | 'scope'>,
): Buffer {
  const bytes = Buffer.alloc(layout.change.size);
  bytes.writeBigUInt64LE(value.dropUntil, change.drop_until[0]);
  bytes.writeBigUInt64LE(value.countUntil, change.count_until[0]);
  bytes.writeUInt32LE(operation, change.operation[0]);
  bytes.writeUInt8(target.address.family, change.family[0]);
  bytes.writeUInt8(target.length, change.prefix_length[0]);
  bytes.writeUInt8(value.action, change.action[0]);
  bytes.writeUInt8(value.owners, change.owners[0]);
  bytes.writeUInt16LE(value.scope, change.scope[0]);
  bytes.set(target.address.bytes, change.address[0]);
  return bytes;
}

export interface Settings {
  readonly format: number;
  readonly mode: number;
  /** CLOCK_MONOTONIC ns, 0 = none. */
  readonly deadline: bigint;
  readonly modeAfter: number;
  readonly sampling: number;
  /** Local ports that are never dropped, whoever comes; at most {@link NEVER_DROP_PORTS}. */
  readonly neverDrop: Ports;
}

const settings = layout.settings.members;

export function encodeSettings(value: Settings): Buffer {
  const bytes = Buffer.alloc(layout.settings.size);
  bytes.writeUInt32LE(value.format, settings.format[0]);
  bytes.writeUInt32LE(value.mode, settings.mode[0]);
  bytes.writeBigUInt64LE(value.deadline, settings.deadline[0]);
  bytes.writeUInt32LE(value.modeAfter, settings.mode_after[0]);
  bytes.writeUInt32LE(value.sampling, settings.sampling[0]);
  writePorts(bytes, settings.never_drop[0], value.neverDrop, NEVER_DROP_PORTS);
  return bytes;
}

export function decodeSettings(bytes: Buffer): Settings {
  return {
    format: bytes.readUInt32LE(settings.format[0]),
    mode: bytes.readUInt32LE(settings.mode[0]),
    deadline: bytes.readBigUInt64LE(settings.deadline[0]),
    modeAfter: bytes.readUInt32LE(settings.mode_after[0]),
    sampling: bytes.readUInt32LE(settings.sampling[0]),
    neverDrop: readPorts(bytes, settings.never_drop[0], NEVER_DROP_PORTS),
  };
}

const port = layout.port.members;

/** A row of `scopes`; the empty set limits nothing. */
export function encodeScope(ports: Ports): Buffer {
  const bytes = Buffer.alloc(layout.scope.size);
  writePorts(bytes, 0, ports, SCOPE_PORTS);
  return bytes;
}

export function decodeScope(bytes: Buffer): Ports {
  return readPorts(bytes, 0, SCOPE_PORTS);
}

function writePorts(bytes: Buffer, offset: number, ports: Ports, most: number): void {
  if (ports.length > most) throw new RangeError(`${ports.length} ports, ${most} fit`);
  for (const [index, { protocol, number }] of ports.entries()) {
    const at = offset + index * layout.port.size;
    bytes.writeUInt8(protocol, at + port.protocol[0]);
    bytes.writeUInt16LE(number, at + port.number[0]);
  }
}

function readPorts(bytes: Buffer, offset: number, most: number): Ports {
  const ports: Port[] = [];
  for (let at = offset; at < offset + most * layout.port.size; at += layout.port.size) {
    const protocol = bytes.readUInt8(at + port.protocol[0]);
    if (protocol === 0) break;
    ports.push({ protocol, number: bytes.readUInt16LE(at + port.number[0]) });
  }
  return ports;
}
