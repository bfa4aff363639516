/** The daemon's blocks, killed at every step: on its own book, and as `falcodrop run` is when an alert comes in. */
import type { ChildProcess } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { canary } from '../daemon/double.ts';
import { ended, until } from '../kernel/lab.ts';
import { differences, heldIn, wantedIn } from './edge.ts';
import { families } from './families.ts';
import { type Fault, openWitness, type Witness } from './witness.ts';

let witness: Witness;
beforeAll(() => {
  witness = openWitness({ config: 'automatic: enforce\nhost_aliases: [edge]\nhttp: { port: 0 }\n' });
});
afterAll(() => witness.edge.lab.close());

const inMaps = (target: string): boolean => heldIn(witness.edge.lab.pinDir).has(target);

test.each(['insert.placed', 'automatic.mapped', 'settle.raised', 'settle.recorded'] as const)(
  'a new block, at %s',
  (point) => {
    const [before, during] = [witness.fresh(), witness.fresh()];
    witness.automatic([{ do: 'block', target: before, seconds: 3600 }, { do: 'settle' }]);
    witness.expects(before, 3600);
    witness.automatic([{ do: 'block', target: during, seconds: 3600 }, { do: 'settle' }], point);
    witness.recover();
    // Nothing that dropped is given up.
    expect(inMaps(during)).toBe(true);
  },
);

test('a new block, at automatic.mapped, and undone before anybody has written it down', () => {
  const target = witness.fresh();
  witness.automatic([{ do: 'block', target, seconds: 3600 }, { do: 'settle' }], 'automatic.mapped');
  expect([inMaps(target), wantedIn(witness.edge.stateDir).has(target)]).toEqual([true, false]);
  const { said } = witness.edge.json(0, ['undo', '--within', target, '--yes']);
  expect(said.map((line) => line.target)).toContain(target);
  witness.edge.must(['reconcile']);
  expect(inMaps(target)).toBe(false);
});

test.each(['automatic.raised', 'settle.raised', 'settle.recorded'] as const)('a longer one, at %s', (point) => {
  const target = witness.fresh();
  witness.automatic([{ do: 'block', target, seconds: 3600 }, { do: 'settle' }]);
  witness.automatic([{ do: 'block', target, seconds: 7200 }, { do: 'settle' }], point);
  witness.expects(target, 3600, 7200);
  witness.recover();
});

test('what ends, at reap.mapped and reap.recorded', async () => {
  for (const point of ['reap.mapped', 'reap.recorded'] as const) {
    const target = witness.fresh();
    witness.edge.must(['block', target, '--for', '1s']);
    await until('its end', () => !inMaps(target));
    witness.automatic([{ do: 'reap' }], point);
    witness.gone(target);
    witness.recover();
    expect(wantedIn(witness.edge.stateDir).has(target)).toBe(false);
  }
});

interface Running {
  readonly child: ChildProcess;
  /** The first line of its log with that message. */
  line(msg: string): Promise<Record<string, unknown>>;
}

/** `falcodrop run`, as it is started by whoever starts it. */
function run(fault?: Fault): Running {
  const { edge } = witness;
  const child = edge.lab.spawn(edge.namespace, edge.argv(['run'], fault === undefined ? {} : { fault }), {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let log = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    log += text;
  });
  const find = (msg: string) =>
    log
      .slice(0, log.lastIndexOf('\n') + 1)
      .split('\n')
      .filter((text) => text.startsWith('{'))
      .map((text) => JSON.parse(text) as Record<string, unknown>)
      .find((line) => line.msg === msg);
  return {
    child,
    async line(msg) {
      await until(`"${msg}" in ${log}`, () => find(msg) !== undefined || child.exitCode !== null, 30_000);
      return find(msg) ?? expect.fail(log);
    },
  };
}

/** From inside, for only there may alerts come from; the connection ends with the daemon. */
async function post(daemon: Running, client: string): Promise<void> {
  const { edge } = witness;
  const { port } = await daemon.line('listening');
  edge.lab.run(
    edge.namespace,
    ...(['curl', '-s', '-o', '/dev/null', '--data-binary', canary(client, { hostname: 'edge' })] as const),
    `http://127.0.0.1:${port}/`,
  );
}

describe('falcodrop run, from the alert on', () => {
  test.each(['insert.placed', 'automatic.mapped', 'settle.raised', 'settle.recorded'] as const)(
    'at %s, and the next one goes on from there',
    async (point) => {
      const [acknowledged, during, after] = [witness.fresh(), witness.fresh(), witness.fresh()];
      witness.acknowledge(acknowledged, 3600);
      const killed = run(point);
      await killed.line('ready');
      await post(killed, during);
      await ended(killed.child);
      expect(killed.child.signalCode).toBe('SIGKILL');
      witness.check('after the crash');
      expect(inMaps(during)).toBe(true);

      // Without a hand: it reconciles at its start.
      const next = run();
      await next.line('ready');
      await post(next, after);
      await until('both in the ledger', () => {
        const wanted = wantedIn(witness.edge.stateDir);
        return wanted.has(during) && wanted.has(after);
      });
      next.child.kill('SIGTERM');
      await ended(next.child);
      expect(next.child.exitCode).toBe(0);
      expect([inMaps(during), inMaps(after)]).toEqual([true, true]);
      expect(differences(witness.edge)).toEqual([]);
      witness.recover();
    },
  );

  test('killed by anybody right after its answer', async () => {
    const target = witness.fresh();
    const daemon = run();
    await daemon.line('ready');
    await post(daemon, target);
    await until('the block', () => inMaps(target));
    daemon.child.kill('SIGKILL');
    await ended(daemon.child);
    witness.recover();
    expect(inMaps(target)).toBe(true);
  });
});

test('every point was reached', () => {
  expect(witness.missing(families['crash-daemon.test.ts'])).toEqual([]);
});
