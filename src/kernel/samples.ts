/**
 * The drop samples: records that the XDP program leaves in the ring `drop_samples`, an entry's 1st, 2nd, 4th, 8th … packet.
 *
 * A ring has one consumer: two of them see records twice, for each moves the one position that there is. So whoever reads it
 * holds the flock on the directory `PIN_DIR/samples`, which its group may open.
 */
import { statSync } from 'node:fs';
import type { Address } from '../address/address.ts';
import { maskPrefix, type Prefix } from '../address/prefix.ts';
import { FalcodropError } from '../errors.ts';
import { u32 } from './attach.ts';
import { count_kind, layout, MAX_SLOTS } from './layout.ts';
import { type BpfMap, type FileLock, isNativeError, native, type RingBuffer } from './native.ts';
import { notReachable, requirePins } from './pins.ts';
import { PinnedSet } from './set.ts';

/** What was done, and to what: by an entry for the address or for a prefix, which only watches, or because all does. */
export type SampleKind = 'drop_address' | 'drop_prefix' | 'pass_monitored' | 'pass_mode_monitor';

export interface Sample {
  /** Drop-clock ns. */
  readonly at: bigint;
  /** Of the entry, this one included. */
  readonly packets: bigint;
  readonly ifindex: number;
  /** Bytes of the frame. */
  readonly length: number;
  /** IANA number; for IPv6 the fixed header's next header. */
  readonly protocol: number;
  readonly kind: SampleKind;
  /** The block that decided. */
  readonly entry: Prefix;
  readonly source: Address;
  readonly destination: Address;
  /** TCP and UDP alone; null where the packet shows none. */
  readonly ports: { readonly source: number; readonly destination: number } | null;
}

const kinds: ReadonlyMap<number, SampleKind> = new Map([
  [count_kind.DROP_ADDRESS, 'drop_address'],
  [count_kind.DROP_PREFIX, 'drop_prefix'],
  [count_kind.PASS_MONITORED, 'pass_monitored'],
  [count_kind.PASS_MODE_MONITOR, 'pass_mode_monitor'],
]);

const member = layout.sample.members;

/** `struct sample`; null for what is none. */
export function decodeSample(record: Buffer): Sample | null {
  if (record.length !== layout.sample.size) return null;
  const family = record.readUInt8(member.family[0]);
  const kind = kinds.get(record.readUInt8(member.kind[0]));
  if ((family !== 4 && family !== 6) || kind === undefined) return null;
  const length = record.readUInt8(member.prefix_length[0]);
  if (length > (family === 4 ? 32 : 128)) return null;
  const addressAt = (offset: number): Address => ({
    family,
    bytes: Uint8Array.from(record.subarray(offset, offset + (family === 4 ? 4 : 16))),
  });
  const source = addressAt(member.source[0]);
  const ports = {
    source: record.readUInt16LE(member.source_port[0]),
    destination: record.readUInt16LE(member.destination_port[0]),
  };
  return {
    at: record.readBigUInt64LE(member.at[0]),
    packets: record.readBigUInt64LE(member.packets[0]),
    ifindex: record.readUInt32LE(member.ifindex[0]),
    length: record.readUInt32LE(member.length[0]),
    protocol: record.readUInt8(member.protocol[0]),
    kind,
    entry: maskPrefix(source, length),
    source,
    destination: addressAt(member.destination[0]),
    ports: ports.source === 0 && ports.destination === 0 ? null : ports,
  };
}

export interface SampleReader {
  /** Records that found no room in the ring since this was asked last. */
  lost(): number;
  /** False after a purge or an upgrade: the XDP programs write into another ring. */
  isCurrent(): boolean;
  close(): void;
}

/** What lay in the ring for longer was met by packets that nobody watched. */
const staleNs = 2_000_000_000n;

/**
 * Becomes the ring's consumer; null when somebody else is. Records older than two seconds are passed over, others that wait
 * are handed over before it returns. `onSample` gets the drop clock too, and must not throw. Keeps the event loop alive until
 * it is closed. Throws `pin_dir_missing`, `not_permitted`, `layout_mismatch`.
 */
export function openSamples(pinDir: string, onSample: (sample: Sample, dropNow: bigint) => void): SampleReader | null {
  const directory = requirePins(pinDir).samples;
  const inode = (): number | undefined => statSync(directory, { throwIfNoEntry: false })?.ino;
  const locked = inode();
  const lock = takeLock(directory);
  if (lock === null) return null;
  let set: PinnedSet | undefined;
  let ring: RingBuffer | undefined;
  try {
    const opened = new PinnedSet(pinDir);
    set = opened;
    const counters = opened.map('counters', true);
    let before = lostIn(counters);
    const since = opened.now() - staleNs;
    ring = native().ringBuffer(opened.map('drop_samples'), (record) => {
      const sample = decodeSample(record);
      if (sample !== null && sample.at >= since) onSample(sample, opened.now());
    });
    ring.consume();
    const isCurrent = (): boolean => inode() === locked && opened.isCurrent();
    // Purged and made anew while it was opened: the lock is on a directory that nobody knows any more.
    if (!isCurrent()) throw new FalcodropError('lock_busy', 'the maps are being made anew', 'try again');
    const consumer = ring;
    return {
      lost: () => {
        const now = lostIn(counters);
        // A slot that is given to another interface begins at zero.
        const more = Math.max(0, now - before);
        before = now;
        return more;
      },
      isCurrent,
      close: () => {
        consumer.close();
        opened.close();
        lock.release();
      },
    };
  } catch (error) {
    ring?.close();
    set?.close();
    lock.release();
    throw error;
  }
}

function takeLock(directory: string): FileLock | null {
  try {
    return native().tryLock(directory, 'exclusive');
  } catch (error) {
    if (!isNativeError(error)) throw error;
    if (error.code === 'EACCES' || error.code === 'EPERM') throw notReachable(directory, error);
    if (error.code !== 'ENOENT') throw error;
    throw new FalcodropError('layout_mismatch', `${directory} is missing`, 'attach again, which makes it', error);
  }
}

/** Of all slots and CPUs. */
function lostIn(counters: BpfMap): number {
  const [packets] = layout.total.members.packets;
  let lost = 0n;
  for (let slot = 0; slot < MAX_SLOTS; slot++) {
    const values = counters.lookup(u32(slot * count_kind.COUNT_KINDS + count_kind.ALSO_SAMPLE_LOST));
    for (let at = 0; values !== null && at + layout.total.size <= values.length; at += layout.total.size) {
      lost += values.readBigUInt64LE(at + packets);
    }
  }
  return Number(lost);
}
