/**
 * The first alert after a start, or after a quiet week, is the one that matters, and cold JavaScript takes some 10 ms for
 * it instead of a tenth of one. So before anybody is listened to, alerts of our own making go the whole way, from a socket
 * to a decision, with nothing at its end; and compiled code is kept, which V8 would throw away when it was not run for a few
 * collections.
 */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { Writable } from 'node:stream';
import { setFlagsFromString } from 'node:v8';
import type { Config } from '../config/config.ts';
import type { HostFacts } from '../judge/host-facts.ts';
import { serveHttp } from '../sources/http.ts';
import { Intake, intakeLimits } from '../sources/intake.ts';
import { wallClock } from '../time/clock.ts';
import { openAlerts } from './alerts.ts';
import { openGlance } from './glance.ts';
import { openLog } from './log.ts';

/** Alerts, and milliseconds after which it is enough. */
const most = { alerts: 2_000, ms: 500 };

/** Never rejects: it is for speed only. */
export async function warmUp(config: Config, facts: HostFacts): Promise<void> {
  setFlagsFromString('--no-flush-bytecode');
  const nowhere = new Writable({ write: (_chunk, _encoding, done) => done() });
  const judging = {
    facts: () => facts,
    rules: config.rules,
    state: { automatic: config.automatic },
    blocklist: { blockAtOnce: () => 'blocked' as const, holds: () => false },
  };
  const alerts = openAlerts({
    ...judging,
    logger: openLog(nowhere).logger,
    clock: wallClock,
    onWritten: () => undefined,
  });
  let socket: Socket | null = null;
  try {
    const intake = new Intake(alerts.take, intakeLimits, { glance: openGlance(judging) });
    const http = await serveHttp({ address: '127.0.0.1', port: 0, intake });
    try {
      socket = connect(http.port, http.address);
      const until = performance.now() + most.ms;
      for (let n = 0; n < most.alerts && performance.now() < until; n++) {
        socket.write(requestOf(n, [...(facts.names ?? [])][0] ?? ''));
        await once(socket, 'data', { signal: AbortSignal.timeout(most.ms) });
      }
      await intake.idle();
    } finally {
      socket?.destroy();
      await http.close(0);
    }
  } catch {
    // no port, or a machine that is too busy: the first alerts take a little longer
  } finally {
    alerts.endPeriod();
  }
}

/** Addresses of the networks for documentation (RFC 5737, RFC 3849): nobody's. */
function requestOf(n: number, hostname: string): string {
  const isV6 = n % 4 === 0;
  const client = isV6 ? `2001:db8::${(n + 1).toString(16)}` : `203.0.113.${(n % 254) + 1}`;
  const server = isV6 ? '2001:db8:1::1' : '198.51.100.1';
  const name = `${client}:40000->${server}:2222`;
  const body = JSON.stringify({
    hostname,
    output: `Warning A connection that never was | connection=${name}`,
    output_fields: {
      'container.id': 'host',
      'evt.res': 'SUCCESS',
      'evt.time': Date.now() * 1e6,
      'evt.type': 'accept4',
      'fd.cip': client,
      'fd.cport': 40_000,
      'fd.l4proto': 'tcp',
      'fd.name': name,
      'fd.sip': server,
      'fd.sport': 2222,
      'fd.type': isV6 ? 'ipv6' : 'ipv4',
    },
    priority: 'Warning',
    rule: 'Connection to Canary Port',
    source: 'syscall',
    tags: ['network'],
    time: new Date().toISOString(),
  });
  return [
    'POST / HTTP/1.1',
    'Host: 127.0.0.1',
    'User-Agent: falcosecurity/falco',
    'Accept: */*',
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    '',
    body,
  ].join('\r\n');
}
