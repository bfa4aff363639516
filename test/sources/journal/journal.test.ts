/** With the real journalctl on real journal files, and with stand-ins for one that goes wrong. */
import { chmodSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { CursorFile } from '../../../src/sources/journal/cursor-file.ts';
import { alert, alertText, append, type Bench, openBench, ours, quick, text } from './journals.ts';

let bench: Bench;
beforeEach(() => {
  bench = openBench();
});
afterEach(() => bench.close());

const cursorIn = (stateDir: string): string => {
  const { cursor } = JSON.parse(readFileSync(join(stateDir, 'journal.json'), 'utf8')) as { cursor: string };
  return cursor;
};

describe('what is read', () => {
  test('alerts of the units and of Falco elsewhere, in order; nothing of others', async () => {
    bench.append(
      alert('modern'),
      alert('plain', { _SYSTEMD_UNIT: 'falco.service', _COMM: 'renamed' }),
      alert('by hand', { _SYSTEMD_UNIT: 'session-3.scope' }),
      alert('of another', { _SYSTEMD_UNIT: 'nginx.service', _COMM: 'nginx' }),
      // Anybody can call his program so, or say that he is Falco.
      alert('of a user', { _SYSTEMD_UNIT: 'user@1000.service', _UID: '1000' }),
      alert('of logger', { _SYSTEMD_UNIT: 'user@1000.service', _COMM: 'logger', SYSLOG_IDENTIFIER: 'falco' }),
    );
    await bench.open().start();
    await bench.judged(3);
    bench.append(alert('of another', { _SYSTEMD_UNIT: 'nginx.service', _COMM: 'nginx' }), alert('later'));
    await bench.judged(4);
    expect(bench.rules).toEqual(['modern', 'plain', 'by hand', 'later']);
    expect(
      bench.arrivals.every(({ source, alert: { origin } }) => source.name === 'journal' && origin === 'local'),
    ).toBe(true);
    expect(bench.intake.counts()).toMatchObject({ journal: { received: 4, bad: 0 } });
  });

  test('bytes that are no text, large ones, several in an entry', async () => {
    const dirty = Buffer.concat([
      Buffer.from('{"rule":"bytes","output":"'),
      Buffer.from([0xff]),
      Buffer.from('\x7f"}'),
    ]);
    bench.append(
      alert('', { MESSAGE: dirty }),
      alert('', { MESSAGE: alertText('large', 700_000) }),
      alert('', { MESSAGE: [alertText('one'), 'text', alertText('two')] }),
      { _SYSTEMD_UNIT: 'falco.service' },
      alert('', { MESSAGE: alertText('"quoted\\ é\t\u2028') }),
      alert('', { MESSAGE: alertText('too large', 1 << 20) }),
      alert('', { MESSAGE: Buffer.alloc(1 << 20, 0x01) }),
      alert('', { MESSAGE: alertText('far too large', 6 << 20) }),
      alert('last'),
    );
    const journal = bench.open();
    await journal.start();
    await bench.judged(6);
    expect(bench.rules).toEqual(['bytes', 'large', 'one', 'two', '"quoted\\ é\t\u2028', 'last']);
    expect(bench.arrivals[0]?.alert.output).toBe('\ufffd\x7f');
    expect(bench.bad).toEqual(['an alert has at most 1048576 bytes']);
    expect(bench.intake.counts()).toMatchObject({ journal: { received: 8, bad: 2, tooLong: 2 } });
    expect(journal.counts()).toMatchObject({ texts: 2, unreadable: 1, failures: 0 });
  });

  test('what Falco says of itself is skipped and counted; what is wrong is bad', async () => {
    const startUp = ['Falco version: 0.41.0 (x86_64)', 'Loading rules from:', '   /etc/falco/falco_rules.yaml'];
    bench.append(...startUp.map(text), text('{"no":"alert"}'), text('{"rule":"cut'), alert('one'));
    const journal = bench.open();
    await journal.start();
    await bench.judged(1);
    expect(journal.counts()).toEqual({ entries: 6, texts: 3, unreadable: 0, failures: 0 });
    expect(bench.intake.counts()).toMatchObject({ journal: { received: 3, bad: 2, decided: 1 } });
    expect(bench.bad).toHaveLength(2);
    expect(bench.said.filter(({ level }) => level === 'warn')).toEqual([]);
  });

  test.each([
    '23:10:05.123456789: Warning Shell spawned (user=root)',
    '2026-01-02T23:10:05.123456789+0000: Notice A shell was spawned',
  ])('alerts without json_output are told once: %s', async (message) => {
    bench.append(text(message), text(message), alert('one'));
    await bench.open().start();
    await bench.judged(1);
    expect(bench.said.filter(({ message: said }) => said.includes('json_output'))).toHaveLength(1);
  });

  test('rotated again and again while it is followed', async () => {
    bench.append(alert('0'));
    await bench.open().start();
    await bench.judged(1);
    for (let n = 1; n <= 5; n++) {
      bench.rotate();
      bench.append(alert(`${n}`));
      await bench.judged(n + 1);
    }
    expect(bench.rules).toEqual(['0', '1', '2', '3', '4', '5']);
  });

  test('without room nothing is read on, and nothing is lost', async () => {
    await bench.close();
    bench = openBench({ limits: { alerts: 3, characters: 4_000 } });
    const wanted = Array.from({ length: 300 }, (_, n) => `${n}`);
    bench.append(...wanted.map((rule) => alert('', { MESSAGE: alertText(rule, 500) })));
    await bench.open().start();
    await bench.judged(300);
    expect(bench.rules).toEqual(wanted);
    expect(bench.intake.counts()).toMatchObject({ journal: { shed: 0 } });
  });
});

describe('where it begins', () => {
  test('at first in the recent past', async () => {
    append(bench.directory, [alert('old')], { agoSeconds: 400 });
    append(bench.directory, [alert('new')], { agoSeconds: 200 });
    await bench.open().start();
    await bench.judged(1);
    expect(bench.rules).toEqual(['new']);
  });

  test('where any age counts, at the beginning', async () => {
    append(bench.directory, [alert('old')], { agoSeconds: 400_000 });
    bench.append(alert('new'));
    await bench.open({ pastSeconds: null }).start();
    await bench.judged(2);
    expect(bench.rules).toEqual(['old', 'new']);
  });

  test('after a restart where it was left, however long ago, also in a former boot', async () => {
    append(bench.directory, [alert('a')], { agoSeconds: 5_000 });
    const first = bench.open({ pastSeconds: null });
    await first.start();
    await bench.judged(1);
    await first.close();
    append(bench.directory, [alert('b')], { agoSeconds: 4_000 });
    append(bench.directory, [alert('c')], { agoSeconds: 3_000, boot: 'b'.repeat(32) });
    bench.rotate();
    append(bench.directory, [alert('d')], { boot: 'b'.repeat(32) });
    const second = bench.open();
    await second.start();
    await bench.judged(4);
    append(bench.directory, [alert('e')], { boot: 'b'.repeat(32) });
    await bench.judged(5);
    expect(bench.rules).toEqual(['a', 'b', 'c', 'd', 'e']);
    expect(bench.said.filter(({ level }) => level === 'warn')).toEqual([]);
  });

  test('where the last alert is of a former boot, this boot is followed from its beginning', async () => {
    const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim().replaceAll('-', '');
    // The real one reads the directory, and is not told of it by us: as with the system's own journal.
    bench.standIn(`echo "$*" >> '${bench.stateDir}/calls'; exec "$REAL" --directory='${bench.directory}' "$@"`);
    append(bench.directory, [alert('a')], { agoSeconds: 100 });
    append(bench.directory, [alert('', { _SYSTEMD_UNIT: 'nginx.service', _COMM: 'nginx' })], { boot });
    const open = () => bench.open({ selection: { ...ours, directory: null } });
    const first = open();
    await first.start();
    await bench.judged(1);
    await expect.poll(bench.starts).toBe(2);
    append(bench.directory, [alert('b'), alert('c')], { boot });
    await bench.judged(3);
    await first.close();
    const second = open();
    await second.start();
    await expect.poll(bench.starts).toBe(4);
    append(bench.directory, [alert('d')], { boot });
    await bench.judged(4);
    expect(bench.rules).toEqual(['a', 'b', 'c', 'd']);
    const calls = readFileSync(join(bench.stateDir, 'calls'), 'utf8')
      .split('\n')
      .filter((line) => line !== '');
    expect(calls.map((line) => /--(follow|cursor|since)/g[Symbol.match](line))).toEqual([
      ['--since'],
      ['--follow'],
      ['--cursor'],
      ['--follow', '--cursor'],
    ]);
  });

  test('kept only what is durable', async () => {
    bench.append(alert('a'));
    let isDurable = false;
    let asked = 0;
    const first = bench.open({
      durable: async () => {
        asked++;
        return isDurable;
      },
    });
    await first.start();
    await bench.judged(1);
    await expect.poll(() => asked, { interval: 5 }).toBeGreaterThanOrEqual(2);
    expect(() => cursorIn(bench.stateDir)).toThrow('ENOENT');
    isDurable = true;
    await first.close();
    expect(cursorIn(bench.stateDir)).toMatch(/^s=/);
  });

  test('ended as by kill -9: what was not kept comes again', async () => {
    bench.append(alert('a'));
    const first = bench.open({ durable: async () => false });
    await first.start();
    await bench.judged(1);
    await first.abandon();
    bench.append(alert('b'));
    await bench.open().start();
    await bench.judged(3);
    expect(bench.rules).toEqual(['a', 'a', 'b']);
  });

  test('vacuumed meanwhile: told once, and the recent past is read', async () => {
    bench.append(alert('a'));
    const first = bench.open();
    await first.start();
    await bench.judged(1);
    await first.close();
    rmSync(join(bench.directory, 'system.journal'));
    append(bench.directory, [alert('old')], { agoSeconds: 4_000 });
    append(bench.directory, [alert('recent')], { agoSeconds: 100 });
    const second = bench.open();
    await second.start();
    await bench.judged(2);
    bench.append(alert('now'));
    await bench.judged(3);
    expect(bench.rules).toEqual(['a', 'recent', 'now']);
    expect(bench.said.filter(({ message }) => message.includes('is not in the journal'))).toEqual([
      expect.objectContaining({ level: 'warn', details: { read: 'the last 300 s' } }),
    ]);
    await second.close();
    await bench.open().start();
    bench.append(alert('after'));
    await bench.judged(4);
    expect(bench.rules.at(-1)).toBe('after');
  });

  test.each([
    [
      'a cursor of another time and machine',
      '{"version":1,"cursor":"s=1;i=1;b=1;m=1;t=7fffffffffffff;x=1"}',
      'is not in',
    ],
    ['what journalctl takes for none', '{"version":1,"cursor":"garbage"}', 'is not in the journal'],
    ['half a file', '{"version":1,"curs', 'damaged'],
    ['another version', '{"version":2,"cursor":"s=1"}', 'damaged'],
    ['an option', '{"version":1,"cursor":"x --vacuum-size=1"}', 'damaged'],
    ['null', 'null', 'damaged'],
  ])('%s was kept', async (_, kept, words) => {
    writeFileSync(new CursorFile(bench.stateDir).path, kept);
    bench.append(alert('a'));
    await bench.open().start();
    await bench.judged(1);
    await bench.saidOf(words);
    expect(bench.rules).toEqual(['a']);
  });

  test('a symbolic link in its place is not followed', async () => {
    const victim = join(bench.directory, 'victim');
    writeFileSync(victim, 'precious');
    symlinkSync(victim, new CursorFile(bench.stateDir).path);
    bench.append(alert('a'));
    const journal = bench.open();
    await journal.start();
    await bench.judged(1);
    await journal.close();
    expect(readFileSync(victim, 'utf8')).toBe('precious');
    expect(cursorIn(bench.stateDir)).toMatch(/^s=/);
  });

  test('a state directory that may not be written: told, and it goes on', async () => {
    bench.append(alert('a'));
    await bench.open({ stateDir: join(bench.stateDir, 'none') }).start();
    await bench.saidOf('the cursor can not be kept');
    bench.append(alert('b'));
    await bench.judged(2);
  });
});

describe('a journalctl that goes wrong', () => {
  test('is not there: said at the start', async () => {
    const { PATH } = process.env;
    process.env.PATH = bench.stateDir;
    try {
      await expect(bench.open().start()).rejects.toMatchObject({
        code: 'journal_unavailable',
        message: 'the journal can not be read: there is no journalctl in PATH',
      });
    } finally {
      process.env.PATH = PATH;
    }
  });

  test('may not be executed', async () => {
    bench.standIn('exit 0');
    const { PATH = '' } = process.env;
    const bin = PATH.split(':')[0] ?? '';
    process.env.PATH = bin;
    chmodSync(join(bin, 'journalctl'), 0o644);
    await expect(bench.open().start()).rejects.toMatchObject({ code: 'journal_unavailable' });
  });

  test('dies again and again after some lines: nothing is lost, each comes once, told once', async () => {
    bench.standIn('"$REAL" "$@" | head -n 2; exit 3');
    bench.append(...['a', 'b', 'c', 'd', 'e'].map((rule) => alert(rule)));
    const journal = bench.open();
    await journal.start();
    await bench.judged(5);
    await expect.poll(bench.starts, { timeout: 10_000 }).toBeGreaterThanOrEqual(6);
    expect(bench.rules).toEqual(['a', 'b', 'c', 'd', 'e']);
    expect(journal.counts().failures).toBeGreaterThanOrEqual(3);
    expect(bench.said.filter(({ message }) => message.includes('does not run as it should'))).toEqual([
      expect.objectContaining({ level: 'warn', details: { problem: 'it ended with 3' } }),
    ]);
  });

  test('is told to be right again when it has run for a while', async () => {
    bench.standIn('echo "no disk" >&2; exit 1');
    bench.append(alert('a'));
    await bench.open({ pace: { ...quick, steadyMs: 1 } }).start();
    await bench.saidOf('it ended with 1: no disk');
    bench.standIn('exec "$REAL" "$@"');
    await bench.judged(1);
    await bench.saidOf('right again');
  });

  test('is waited for longer each time, and not for ever', async () => {
    bench.standIn('exit 1');
    const journal = bench.open({ pace: { ...quick, leastWaitMs: 1, mostWaitMs: 60_000 } });
    await journal.start();
    await bench.saidOf('it ended with 1');
    // 1 + 2 + … ms less a half at most: a dozen starts take seconds, and stopping does not wait.
    const before = performance.now();
    await expect.poll(bench.starts, { timeout: 10_000, interval: 5 }).toBeGreaterThanOrEqual(8);
    expect(performance.now() - before).toBeGreaterThan(30);
    await journal.stop();
  });

  test('hangs and says nothing: it is ended, and begun anew', async () => {
    bench.standIn('exec sleep 1000');
    bench.append(alert('a'));
    await bench.open({ pace: { ...quick, quietMs: 50 } }).start();
    await bench.saidOf('it says nothing, and does not end');
    bench.standIn('exec "$REAL" "$@"');
    await bench.judged(1);
  });

  test('hangs while it follows: what it does not tell is found', async () => {
    bench.standIn('case "$*" in *--follow*) exec sleep 1000;; esac; exec "$REAL" "$@"');
    bench.append(alert('a'));
    await bench.open({ pace: { ...quick, quietMs: 200 } }).start();
    await bench.judged(1);
    bench.append(alert('b'));
    await bench.judged(2);
    expect(bench.rules).toEqual(['a', 'b']);
  });

  test('hangs, and so does what it has started: stopping does not wait', async () => {
    bench.standIn('sleep 5 & echo $! > "$0.pid"; wait');
    const journal = bench.open();
    await journal.start();
    const before = performance.now();
    await journal.stop();
    expect(performance.now() - before).toBeLessThan(3_000);
  });

  test('prints garbage: counted, told once, and what is right among it is read', async () => {
    const garbage = ['no json', '[]', '"x"', '{}', '{"__CURSOR":1}', '{"MESSAGE":{"a":1}}', '\\0\\377\\376'];
    bench.append(alert('a'));
    bench.standIn(
      `for n in 1 2; do ${garbage.map((line) => `printf '${line}\\n'`).join('; ')}; done; printf -- '-- No entries --\\n'; exec "$REAL" "$@"`,
    );
    const journal = bench.open({ pace: { ...quick } });
    await journal.start();
    await bench.judged(1);
    expect(bench.rules).toEqual(['a']);
    expect(journal.counts().unreadable).toBeGreaterThanOrEqual(10);
    expect(bench.said.filter(({ message }) => message.includes('a line of journalctl is not read'))).toHaveLength(1);
  });

  test('a line without end takes no memory', async () => {
    bench.append(alert('a'));
    bench.standIn('head -c 150000000 /dev/zero | tr "\\0" x; echo; exec "$REAL" "$@"');
    const before = process.memoryUsage().rss;
    let most = 0;
    const watch = setInterval(() => {
      most = Math.max(most, process.memoryUsage().rss);
    }, 10);
    await bench.open().start();
    await bench.judged(1);
    clearInterval(watch);
    expect(most - before).toBeLessThan(120 << 20);
    expect(bench.intake.counts()).toMatchObject({ journal: { tooLong: 1 } });
  });

  test('a flood on stderr', async () => {
    bench.append(alert('a'));
    bench.standIn('head -c 50000000 /dev/zero | tr "\\0" x >&2; yes words | head -n 100000 >&2; exec "$REAL" "$@"');
    await bench.open().start();
    await bench.judged(1);
    expect(bench.said.filter(({ level }) => level === 'warn')).toEqual([]);
  });

  test.each([
    ['No journal files were opened due to insufficient permissions.', 'exit 1'],
    ['Hint: You are currently not seeing messages from other users and the system.', 'exec sleep 1000'],
  ])('%s', async (words, then) => {
    bench.standIn(`echo '${words}' >&2; ${then}`);
    await bench.open().start();
    expect(await bench.saidOf('systemd-journal')).toMatchObject({ level: 'warn' });
    expect(bench.said.filter(({ level }) => level === 'warn')).toHaveLength(1);
  });

  test('files that this user may not read, by the real one', async (context) => {
    if (process.getuid?.() !== 0) return context.skip('only root can become another user');
    bench.append(alert('a'));
    chmodSync(join(bench.directory, '..'), 0o755);
    chmodSync(join(bench.directory, 'system.journal'), 0o600);
    bench.standIn('exec setpriv --reuid=65534 --regid=65534 --clear-groups "$REAL" "$@"');
    await bench.open().start();
    await bench.saidOf('must be in the group systemd-journal');
    chmodSync(join(bench.directory, 'system.journal'), 0o644);
    await bench.judged(1);
  });
});

test('what is called is no shell, and no secret of ours is in its environment', async () => {
  process.env.FALCODROP_TEST_SECRET = 'x';
  bench.standIn(
    `tr '\\0' '\\n' < /proc/$$/environ > '${bench.stateDir}/environment'; printf '%s\\n' "$@" > '${bench.stateDir}/arguments'; exec "$REAL" "$@"`,
  );
  bench.append(alert('a'));
  const unit = '$(touch x).service';
  await bench
    .open({ selection: { units: ['falco-modern-bpf.service', unit], matches: [], directory: bench.directory } })
    .start();
  await bench.judged(1);
  delete process.env.FALCODROP_TEST_SECRET;
  const environment = readFileSync(join(bench.stateDir, 'environment'), 'utf8').trim().split('\n');
  expect(environment.map((line) => line.split('=')[0]).toSorted()).toEqual(['LC_ALL', 'PATH']);
  expect(readFileSync(join(bench.stateDir, 'arguments'), 'utf8')).toContain(`_SYSTEMD_UNIT=${unit}\n`);
});
