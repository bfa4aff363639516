/**
 * Local ports that a block is limited to: `tcp/22,udp/53`. A set is canonical (sorted, each once), so that equal sets are
 * equal texts; the empty set means every port.
 */
import { FalcodropError } from '../errors.ts';

export interface Port {
  /** IANA protocol number. */
  readonly protocol: number;
  readonly number: number;
}

export type Ports = readonly Port[];

/** Protocols whose header begins with source and destination port, by IANA number; the XDP program reads these. */
const protocols = { tcp: 6, udp: 17, dccp: 33, sctp: 132, udplite: 136 } as const;

export const everyPort: Ports = [];

/** As many as the kernel's row of a scope holds. */
export const mostPorts = 16;

/** Throws `ports_invalid`, naming the part that is wrong. */
export function parsePorts(text: string): Ports {
  const parts = text.split(',').map((part) => part.trim());
  const ports = canonical(parts.map(parsePort));
  if (ports.length <= mostPorts) return ports;
  throw invalid(`${ports.length} ports are more than the ${mostPorts} that a block can be limited to`);
}

function parsePort(text: string): Port {
  const [, name = '', digits = ''] = /^([a-z]+)\/(\d{1,5})$/.exec(text.toLowerCase()) ?? [];
  const protocol = Object.hasOwn(protocols, name) ? protocols[name as keyof typeof protocols] : undefined;
  const number = Number(digits);
  if (protocol === undefined || digits === '' || number > 65_535) {
    const shown = text.length > 40 ? `${text.slice(0, 40)}…` : text;
    throw invalid(`${JSON.stringify(shown)} is no port`);
  }
  return { protocol, number };
}

function invalid(message: string): FalcodropError {
  const names = Object.keys(protocols).join(', ');
  return new FalcodropError('ports_invalid', message, `write protocol/number, as in tcp/22,tcp/2222 (${names})`);
}

/** The canonical text; empty for every port. */
export function formatPorts(ports: Ports): string {
  return ports.map(({ protocol, number }) => `${nameOf(protocol)}/${number}`).join(',');
}

function nameOf(protocol: number): string {
  return Object.entries(protocols).find(([, known]) => known === protocol)?.[0] ?? `${protocol}`;
}

function canonical(ports: Ports): Ports {
  const sorted = [...ports].sort((a, b) => a.protocol - b.protocol || a.number - b.number);
  return sorted.filter((port, index) => index === 0 || !isEqual(port, sorted[index - 1]));
}

function isEqual(a: Port, b: Port | undefined): boolean {
  return a.protocol === b?.protocol && a.number === b.number;
}

/** What either holds. May be longer than {@link mostPorts}. */
export function joinPorts(a: Ports, b: Ports): Ports {
  return a.length === 0 || b.length === 0 ? everyPort : canonical([...a, ...b]);
}

export function isSamePorts(a: Ports, b: Ports): boolean {
  return formatPorts(a) === formatPorts(b);
}

/** Whether `wide` holds all of `narrow`. */
export function coversPorts(wide: Ports, narrow: Ports): boolean {
  return isSamePorts(joinPorts(wide, narrow), wide);
}
