/**
 * From where somebody is logged in over SSH. Only *authenticated* sessions count, as logind or utmp record them after the
 * login: a mere connection to port 22 would make a brute forcer safe.
 */
import { join } from 'node:path';
import { type Address, fromBytes, readAddress } from '../address/address.ts';
import { hostPrefix, type Prefix } from '../address/prefix.ts';
import { namesIn, readIfThere, textIfThere } from './files.ts';

export interface Sessions {
  readonly peers: readonly Prefix[];
  /**
   * Remote hosts recorded by name (sshd with UseDNS). They are not looked up: whoever owns the address writes its name,
   * and a DNS query would wait.
   */
  readonly unresolvable: readonly string[];
}

type Peer = { readonly address: Address } | { readonly name: string };

/** systemd's session file: KEY=VALUE lines, as /run/systemd/sessions/ID. Null for a local, a closing or another service's session. */
export function parseLogindSession(text: string): Peer | null {
  const fields = new Map<string, string>();
  for (const line of text.split('\n')) {
    const equals = line.indexOf('=');
    if (equals > 0 && !line.startsWith('#')) fields.set(line.slice(0, equals), unquote(line.slice(equals + 1)));
  }
  if (fields.get('REMOTE') !== '1' || fields.get('STATE') === 'closing') return null;
  // FTP and mail servers open remote sessions through PAM too; the PAM service of OpenSSH is its program's name
  const service = fields.get('SERVICE');
  if (service !== undefined && !/ssh|dropbear/i.test(service)) return null;
  const host = fields.get('REMOTE_HOST');
  return host === undefined || host === '' ? null : peerOf(host);
}

function unquote(value: string): string {
  return /^"(.*)"$/.exec(value)?.[1] ?? value;
}

/** `struct utmp` of glibc. Where time_t never was 32 bits wide (arm64) the session is a long and the time two of them. */
const utmpLayouts = {
  compat32: { size: 384, address: 348 },
  native64: { size: 400, address: 360 },
} as const;

/** USER_PROCESS of utmp(5). */
const userProcess = 7;

export type UtmpLayout = keyof typeof utmpLayouts;

export function utmpLayoutOf(arch: NodeJS.Architecture): UtmpLayout {
  return arch === 'arm64' ? 'native64' : 'compat32';
}

/** Remote logins whose process is alive; a session that was cut leaves its record behind. */
export function parseUtmp(bytes: Buffer, layout: UtmpLayout, isAlive: (pid: number) => boolean): Peer[] {
  const { size, address } = utmpLayouts[layout];
  const peers: Peer[] = [];
  for (let at = 0; at + size <= bytes.length; at += size) {
    const record = bytes.subarray(at, at + size);
    if (record.readInt16LE(0) !== userProcess) continue;
    const pid = record.readInt32LE(4);
    if (pid <= 0 || !isAlive(pid)) continue;
    const peer = utmpAddress(record.subarray(address, address + 16)) ?? utmpHost(record.subarray(76, 76 + 256));
    if (peer !== null) peers.push(peer);
  }
  return peers;
}

/** ut_addr_v6: an IPv4 address stands in the first word alone. */
function utmpAddress(bytes: Buffer): Peer | null {
  if (bytes.every((byte) => byte === 0)) return null;
  const isV4 = bytes.subarray(4).every((byte) => byte === 0);
  return { address: fromBytes(isV4 ? bytes.subarray(0, 4) : bytes) };
}

/** ut_host also holds X displays (":0") and terminal multiplexers ("tmux(1234).%0"): no hosts. */
function utmpHost(bytes: Buffer): Peer | null {
  const end = bytes.indexOf(0);
  const host = bytes.subarray(0, end < 0 ? bytes.length : end).toString('latin1');
  if (readAddress(host) === null && !/^[\w.-]*\w$/.test(host)) return null;
  return peerOf(host);
}

function peerOf(host: string): Peer {
  const address = readAddress(host.replace(/%.*$/, ''));
  return address === null ? { name: host } : { address };
}

/**
 * logind's sessions; where it keeps none (no systemd, sshd without PAM), utmp's. `root` stands before every path.
 */
export function readSessions(root = ''): Sessions {
  const folder = join(root, '/run/systemd/sessions');
  // beside ID there are ID.ref pipes, which would wait for a writer, and temporary files
  const names = namesIn(folder).filter((name) => /^[0-9a-z]+$/i.test(name));
  const peers =
    names.length > 0
      ? names.map((name) => parseLogindSession(textIfThere(join(folder, name)) ?? ''))
      : readUtmp(readIfThere(join(root, '/run/utmp')) ?? Buffer.alloc(0));

  const addresses = new Map<string, Prefix>();
  const unresolvable = new Set<string>();
  for (const peer of peers) {
    if (peer === null) continue;
    if ('name' in peer) unresolvable.add(peer.name.slice(0, 255));
    else addresses.set(peer.address.bytes.join('.'), hostPrefix(peer.address));
  }
  return { peers: [...addresses.values()], unresolvable: [...unresolvable] };
}

function readUtmp(bytes: Buffer): Peer[] {
  return parseUtmp(bytes, utmpLayoutOf(process.arch), isProcessAlive);
}

function isProcessAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}
