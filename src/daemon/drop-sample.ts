/** A drop sample as programs read it: the daemon hands it on in this form, `falcodrop watch drops --json` prints it. */
import { formatAddress, readAddress } from '../address/address.ts';
import { formatPrefix, readPrefix } from '../address/prefix.ts';
import { native } from '../kernel/native.ts';
import type { Sample, SampleKind } from '../kernel/samples.ts';

export interface DropSample {
  /** RFC 3339, UTC, milliseconds; a kernel's tick behind at most. */
  readonly at: string;
  /** null: it is gone. */
  readonly interface: string | null;
  readonly ifindex: number;
  readonly verdict: 'dropped' | 'counted';
  /** `address`, `prefix`: the entry that dropped it. `monitor`: the entry only watches; `mode_monitor`: the global mode does. */
  readonly reason: 'address' | 'prefix' | 'monitor' | 'mode_monitor';
  /** Target of the block that decided. */
  readonly entry: string;
  readonly source: string;
  readonly destination: string;
  /** `tcp`, or the number as text. */
  readonly protocol: string;
  readonly source_port: number | null;
  readonly destination_port: number | null;
  /** Bytes of the frame. */
  readonly length: number;
  /** Which one of the entry's packets it is, counted from 1. */
  readonly packet: number;
}

/** Keywords of IANA's protocol numbers, those that are met. */
const protocols: Readonly<Record<number, string>> = {
  0: 'hopopt',
  1: 'icmp',
  2: 'igmp',
  4: 'ipip',
  6: 'tcp',
  17: 'udp',
  33: 'dccp',
  41: 'ipv6',
  43: 'route',
  44: 'frag',
  47: 'gre',
  50: 'esp',
  51: 'ah',
  58: 'icmpv6',
  60: 'dstopts',
  89: 'ospf',
  112: 'vrrp',
  132: 'sctp',
  136: 'udplite',
};

const outcomes: Readonly<Record<SampleKind, Pick<DropSample, 'verdict' | 'reason'>>> = {
  drop_address: { verdict: 'dropped', reason: 'address' },
  drop_prefix: { verdict: 'dropped', reason: 'prefix' },
  pass_monitored: { verdict: 'counted', reason: 'monitor' },
  pass_mode_monitor: { verdict: 'counted', reason: 'mode_monitor' },
};

/** `dropNow` (ns) and `wallMs` are one moment. */
export function dropSample(
  sample: Sample,
  { dropNow, wallMs, nameOf }: { dropNow: bigint; wallMs: number; nameOf: (ifindex: number) => string | null },
): DropSample {
  return {
    at: new Date(wallMs - Number((dropNow - sample.at) / 1_000_000n)).toISOString(),
    interface: nameOf(sample.ifindex),
    ifindex: sample.ifindex,
    ...outcomes[sample.kind],
    entry: formatPrefix(sample.entry),
    source: formatAddress(sample.source),
    destination: formatAddress(sample.destination),
    protocol: protocols[sample.protocol] ?? `${sample.protocol}`,
    source_port: sample.ports?.source ?? null,
    destination_port: sample.ports?.destination ?? null,
    length: sample.length,
    packet: Number(sample.packets),
  };
}

/** Of what came over a socket, for nothing of that is believed; null for what is no sample. Names may hold any character. */
export function readDropSample(value: unknown): DropSample | null {
  if (typeof value !== 'object' || value === null) return null;
  const given = value as Readonly<Record<keyof DropSample, unknown>>;
  const isText = (text: unknown, longest: number): text is string => typeof text === 'string' && text.length <= longest;
  const isNumber = (number: unknown): number is number => typeof number === 'number' && Number.isSafeInteger(number);
  const isPort = (port: unknown): port is number | null => port === null || (isNumber(port) && port >= 0);
  const { at, ifindex, verdict, reason, entry, source, destination, protocol, length, packet } = given;
  const { interface: name, source_port, destination_port } = given;
  if (!isText(at, 30) || Number.isNaN(Date.parse(at))) return null;
  if (name !== null && !isText(name, 64)) return null;
  if (!isNumber(ifindex) || !isNumber(length) || !isNumber(packet)) return null;
  const outcome = Object.values(outcomes).find((one) => one.verdict === verdict && one.reason === reason);
  if (outcome === undefined) return null;
  if (!isText(entry, 64) || readPrefix(entry) === null) return null;
  if (!isText(source, 64) || readAddress(source) === null) return null;
  if (!isText(destination, 64) || readAddress(destination) === null) return null;
  if (!isText(protocol, 10) || !/^[a-z0-9]+$/.test(protocol)) return null;
  if (!isPort(source_port) || !isPort(destination_port)) return null;
  return {
    at,
    interface: name,
    ifindex,
    ...outcome,
    entry,
    source,
    destination,
    protocol,
    source_port,
    destination_port,
    length,
    packet,
  };
}

/** How long a name is believed: interfaces are renamed, and indexes given again. */
const namesLastMs = 5_000;

/** Asks the kernel when it has not for some seconds. */
export function interfaceNames(now: () => number = Date.now): (ifindex: number) => string | null {
  let names = new Map<number, string>();
  let read = Number.NEGATIVE_INFINITY;
  return (ifindex) => {
    const ms = now();
    if (ms - read > namesLastMs || ms < read) {
      read = ms;
      try {
        names = new Map(
          native()
            .netlink.links()
            .map((link) => [link.ifindex, link.name]),
        );
      } catch {
        // those known before do until the next time
      }
    }
    return names.get(ifindex) ?? null;
  };
}
