/** The name servers that this host asks, also behind a stub on loopback. */
import { join } from 'node:path';
import { type Address, parseAddress, readAddress } from '../address/address.ts';
import { contains, hostPrefix, type Prefix, parsePrefix } from '../address/prefix.ts';
import { namesIn, textIfThere } from './files.ts';

const loopback: readonly Prefix[] = ['127.0.0.0/8', '::1'].map(parsePrefix);

/**
 * `nameserver` lines of resolv.conf(5). Without any the C library asks 127.0.0.1. A zone id (`fe80::1%eth0`) is left off.
 */
export function parseResolvConf(text: string): Address[] {
  const servers: Address[] = [];
  for (const line of text.split('\n')) {
    const match = /^\s*nameserver\s+([^\s#;]+)/.exec(line);
    const server = match === null ? null : addressIn(match[1] ?? '');
    if (server !== null) servers.push(server);
  }
  return servers.length === 0 ? [parseAddress('127.0.0.1')] : servers;
}

/** What dnsmasq's configuration says of its own servers: addresses of `server=`, and files of `resolv-file=`. */
export function parseDnsmasq(text: string): {
  readonly servers: readonly Address[];
  readonly files: readonly string[];
} {
  const servers: Address[] = [];
  const files: string[] = [];
  for (const line of text.split('\n')) {
    const match = /^\s*(server|resolv-file)\s*=\s*([^\s]+)/.exec(line);
    const value = match?.[2] ?? '';
    if (match?.[1] === 'resolv-file') files.push(value);
    if (match?.[1] !== 'server') continue;
    // server=/domain/192.0.2.1#5353@eth0
    const server = addressIn(value.slice(value.lastIndexOf('/') + 1).replace(/[#@].*$/, ''));
    if (server !== null) servers.push(server);
  }
  return { servers, files };
}

/** Addresses that unbound asks: `forward-addr: 192.0.2.1@853#name` of forward zones, `stub-addr` of stub zones. */
export function parseUnbound(text: string): Address[] {
  const servers: Address[] = [];
  for (const line of text.split('\n')) {
    const match = /^\s*(?:forward|stub)-addr\s*:\s*"?([^\s"@#]+)/.exec(line);
    const server = match === null ? null : addressIn(match[1] ?? '');
    if (server !== null) servers.push(server);
  }
  return servers;
}

/** Where a stub's own servers stand: systemd-resolved, NetworkManager, and dnsmasq under resolvconf or libvirt's habits. */
const behindStub = [
  '/run/systemd/resolve/resolv.conf',
  '/run/NetworkManager/no-stub-resolv.conf',
  '/run/NetworkManager/resolv.conf',
  '/run/dnsmasq/resolv.conf',
  '/run/resolvconf/interface/original.resolvconf',
  '/etc/resolv.dnsmasq.conf',
  '/etc/resolv.dnsmasq',
];

/**
 * The resolvers, loopback ones left out. `root` stands before every path.
 *
 * A stub's own servers are asked for whatever resolv.conf says: it may name the stub by another of this host's addresses
 * (dnsmasq on the LAN's side), and nss-resolve passes it by. One too many costs nothing, one too few the names.
 */
export function readResolvers(root = ''): Prefix[] {
  const servers = new Map<string, Address>();
  const add = (found: readonly Address[]): void => {
    for (const server of found) {
      if (!loopback.some((range) => contains(range, server))) servers.set(server.bytes.join('.'), server);
    }
  };
  const addFile = (path: string): void => {
    const text = textIfThere(join(root, path));
    if (text !== null) add(parseResolvConf(text));
  };

  add(parseResolvConf(textIfThere(join(root, '/etc/resolv.conf')) ?? ''));
  for (const path of behindStub) addFile(path);
  for (const path of ['/etc/dnsmasq.conf', ...filesIn(root, '/etc/dnsmasq.d')]) {
    const { servers: named, files } = parseDnsmasq(textIfThere(join(root, path)) ?? '');
    add(named);
    for (const file of files) addFile(file);
  }
  for (const path of ['/etc/unbound/unbound.conf', ...unboundFolders.flatMap((folder) => filesIn(root, folder))]) {
    add(parseUnbound(textIfThere(join(root, path)) ?? ''));
  }
  return [...servers.values()].map(hostPrefix);
}

/** Of Debian and of EL. */
const unboundFolders = ['/etc/unbound/unbound.conf.d', '/etc/unbound/conf.d'] as const;

function filesIn(root: string, folder: string): string[] {
  return namesIn(join(root, folder)).map((name) => `${folder}/${name}`);
}

function addressIn(text: string): Address | null {
  return readAddress(text.replace(/%.*$/, ''));
}
