import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { expect, test } from 'vitest';
import { ended, type Lab, withLab } from '../kernel/lab.ts';

interface Facts {
  readonly own: string[];
  readonly containers: string[];
  readonly broadcasts: string[];
  readonly gateways: string[];
  readonly resolvers: string[];
  readonly sessions: string[];
  readonly names: string[];
  readonly unresolvable: string[];
}

const script = join(import.meta.dirname, 'print.ts');

function facts(lab: Lab, namespace: string, root: string): Facts {
  return JSON.parse(lab.exec(namespace, process.execPath, script, lab.pinDir, root)) as Facts;
}

/** An edge host: an uplink, a container bridge with a container, AnyIP, a VRF, a proxy's local default, multipath. */
function edge(lab: Lab): string {
  const host = lab.namespace('h');
  const outside = lab.namespace('o');
  const container = lab.namespace('c');
  lab.veth(
    { namespace: host, name: 'uplink0', exact: true, addresses: ['203.0.113.10/24', '2001:db8::10/64'] },
    { namespace: outside, name: 'uplink0', exact: true, addresses: ['203.0.113.1/24', '2001:db8::1/64'] },
  );
  const ip = (...args: string[]) => lab.exec(null, 'ip', '-n', host, ...args);
  ip('route', 'add', 'default', 'via', '203.0.113.1');
  ip('route', 'add', 'default', 'via', '2001:db8::1');
  ip('link', 'add', 'docker0', 'type', 'bridge');
  ip('link', 'set', 'docker0', 'addrgenmode', 'none');
  ip('addr', 'add', '172.17.0.1/16', 'brd', '172.17.255.255', 'dev', 'docker0');
  ip('link', 'set', 'docker0', 'up');
  lab.veth(
    { namespace: host, name: 'vethc', exact: true },
    { namespace: container, name: 'eth0', exact: true, addresses: ['172.17.0.2/16'] },
  );
  ip('link', 'set', 'vethc', 'master', 'docker0');
  ip('link', 'add', 'idle0', 'type', 'bridge');
  ip('link', 'set', 'idle0', 'addrgenmode', 'none');
  ip('addr', 'add', '198.51.100.77/24', 'dev', 'idle0');
  ip('link', 'set', 'idle0', 'up');
  ip('route', 'add', 'local', '198.18.0.0/24', 'dev', 'lo');
  ip('route', 'add', 'local', 'default', 'dev', 'lo', 'table', '100');
  ip('route', 'add', '10.20.0.0/16', 'nexthop', 'via', '203.0.113.2', 'nexthop', 'via', '203.0.113.3');
  ip('route', 'add', '10.30.0.0/16', 'via', 'inet6', '2001:db8::5', 'dev', 'uplink0');
  ip('route', 'add', '10.40.0.0/16', 'via', '203.0.113.4', 'table', '1001');
  ip('route', 'add', 'local', '10.9.0.1', 'dev', 'uplink0', 'table', '1001');
  return host;
}

interface IpRoute {
  readonly dst: string;
}

/** What iproute2 says: the oracle. */
function routes(lab: Lab, namespace: string, type: string): string[] {
  return ['-4', '-6'].flatMap((family) => {
    const text = lab.exec(namespace, 'ip', family, '-j', 'route', 'show', 'table', 'all', 'type', type).trim();
    return (JSON.parse(text === '' ? '[]' : text) as IpRoute[]).map(({ dst }) => dst);
  });
}

test('facts of a network namespace are those that ip tells', () =>
  withLab((lab) => {
    const host = edge(lab);
    const root = join(lab.directory, 'root');
    mkdirSync(join(root, 'etc'), { recursive: true });
    writeFileSync(join(root, 'etc/resolv.conf'), 'nameserver 192.0.2.53\n');
    const found = facts(lab, host, root);

    const local = routes(lab, host, 'local').filter((destination) => destination !== 'default');
    expect(local).toEqual(expect.arrayContaining(['198.18.0.0/24', '10.9.0.1', '198.51.100.77', '203.0.113.10']));
    expect(found.own).toEqual([...new Set(['0.0.0.0', '127.0.0.0/8', '::', '::1', ...local])].toSorted());
    expect(found.broadcasts).toEqual([...new Set(routes(lab, host, 'broadcast'))].toSorted());
    expect(found.gateways).toEqual(
      ['203.0.113.1', '203.0.113.2', '203.0.113.3', '203.0.113.4', '2001:db8::1', '2001:db8::5'].toSorted(),
    );
    // The uplink is a veth and carries the default route; the bridges have no port that leads outside.
    expect(found.containers).toEqual(['172.17.0.0/16', '198.51.100.0/24']);
    expect(found.resolvers).toEqual(['192.0.2.53']);
    expect(found.names).toContain('alias.example');

    // Without its default route the uplink is one by being attached.
    lab.exec(null, 'ip', '-n', host, 'route', 'del', 'default');
    lab.exec(null, 'ip', '-n', host, '-6', 'route', 'del', 'default');
    expect(facts(lab, host, root).containers).toContain('203.0.113.0/24');
    lab.attach(host, ['uplink0']);
    expect(facts(lab, host, root).containers).toEqual(['172.17.0.0/16', '198.51.100.0/24']);
    lab.detach(host, null, { purge: true });
  }));

/** Routing daemons use nexthop objects; without the compatibility mode a route names no gateway any more. */
test('gateways of nexthop objects, alone and in groups; the uplink they make', () =>
  withLab((lab) => {
    const host = edge(lab);
    const ip = (...args: string[]) => lab.exec(null, 'ip', '-n', host, ...args);
    lab.exec(host, 'sysctl', '-q', 'net.ipv4.nexthop_compat_mode=0');
    ip('route', 'del', 'default');
    ip('-6', 'route', 'del', 'default');
    ip('nexthop', 'add', 'id', '1', 'via', '203.0.113.31', 'dev', 'uplink0');
    ip('nexthop', 'add', 'id', '2', 'via', '203.0.113.32', 'dev', 'uplink0');
    ip('nexthop', 'add', 'id', '3', 'group', '1/2');
    ip('nexthop', 'add', 'id', '4', 'via', '2001:db8::33', 'dev', 'uplink0');
    ip('nexthop', 'add', 'id', '5', 'blackhole');
    ip('nexthop', 'add', 'id', '6', 'via', '203.0.113.36', 'dev', 'uplink0');
    ip('route', 'add', 'default', 'nhid', '3');
    ip('route', 'add', '10.60.0.0/16', 'nhid', '4');
    ip('-6', 'route', 'add', '2001:db8:7::/48', 'nhid', '4', 'table', '1001');
    ip('route', 'add', '10.61.0.0/16', 'nhid', '5');

    const found = facts(lab, host, '');
    expect(found.gateways).toEqual(
      expect.arrayContaining(['203.0.113.31', '203.0.113.32', '2001:db8::33', '203.0.113.2', '203.0.113.3']),
    );
    expect(found.gateways).not.toContain('203.0.113.36');
    expect(found.containers).toEqual(['172.17.0.0/16', '198.51.100.0/24']);
  }));

test('facts follow routes, addresses, resolver files and sessions', () =>
  withLab(async (lab) => {
    const host = edge(lab);
    const root = join(lab.directory, 'root');
    mkdirSync(join(root, 'etc'), { recursive: true });
    mkdirSync(join(root, 'run/systemd/sessions'), { recursive: true });
    const child = lab.spawn(host, [process.execPath, script, lab.pinDir, root, 'watch'], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    if (child.stdout === null || child.stdin === null) throw new Error('no pipes');
    let last: Facts | undefined;
    let wake: () => void = () => undefined;
    createInterface(child.stdout).on('line', (line) => {
      last = JSON.parse(line) as Facts;
      wake();
    });
    const until = async (holds: (facts: Facts) => boolean): Promise<void> => {
      while (last === undefined || !holds(last)) {
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    };
    await until(({ own }) => own.includes('203.0.113.10'));

    const ip = (...args: string[]) => lab.exec(null, 'ip', '-n', host, ...args);
    ip('addr', 'add', '203.0.113.11/24', 'dev', 'uplink0');
    await until(({ own }) => own.includes('203.0.113.11'));
    ip('addr', 'del', '203.0.113.11/24', 'dev', 'uplink0');
    await until(({ own }) => !own.includes('203.0.113.11'));
    ip('route', 'add', '10.50.0.0/16', 'via', '203.0.113.66');
    await until(({ gateways }) => gateways.includes('203.0.113.66'));
    lab.exec(host, 'sysctl', '-q', 'net.ipv4.nexthop_compat_mode=0');
    ip('nexthop', 'add', 'id', '1', 'via', '203.0.113.67', 'dev', 'uplink0');
    ip('route', 'add', '10.51.0.0/16', 'nhid', '1');
    await until(({ gateways }) => gateways.includes('203.0.113.67'));
    // No event of a route tells of this.
    ip('nexthop', 'replace', 'id', '1', 'via', '203.0.113.68', 'dev', 'uplink0');
    await until(({ gateways }) => gateways.includes('203.0.113.68') && !gateways.includes('203.0.113.67'));
    ip('link', 'del', 'docker0');
    await until(({ containers }) => !containers.includes('172.17.0.0/16'));

    const file = join(root, 'run/systemd/sessions/7');
    writeFileSync(file, 'REMOTE=1\nSTATE=active\nSERVICE=sshd\nREMOTE_HOST=198.51.100.5\n');
    await until(({ sessions }) => sessions.includes('198.51.100.5'));
    rmSync(file);
    await until(({ sessions }) => sessions.length === 0);
    writeFileSync(join(root, 'etc/resolv.conf'), 'nameserver 192.0.2.53\n');
    await until(({ resolvers }) => resolvers.includes('192.0.2.53'));

    child.stdin.end();
    await ended(child);
    expect(child.exitCode).toBe(0);
  }));
