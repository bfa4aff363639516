import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { afterEach, describe, expect, test } from 'vitest';
import { elementsOf, shapeOf } from '../../../src/sources/http/elements.ts';
import { type HttpLimits, httpLimits } from '../../../src/sources/http/limits.ts';
import { post, type Wire } from '../wire.ts';
import { alertOf, type Served, serve } from './serve.ts';

const opened: Served[] = [];
afterEach(async () => {
  for (const each of opened.splice(0)) await each.close();
});

async function open(options: Parameters<typeof serve>[0] = {}): Promise<Served & { readonly sender: Wire }> {
  const served = await serve(options);
  opened.push(served);
  return { ...served, sender: await served.wire() };
}

const limited = (limits: Partial<HttpLimits>) => open({ limits });

const [a, b, c] = [alertOf('a'), alertOf('b'), alertOf('c')];
const pretty = JSON.stringify(JSON.parse(a), null, 2);
const gzip = 'Content-Encoding: gzip\r\n';

describe('bodies whose alerts are all good are answered 202', () => {
  test.each<[string, string, string[]]>([
    ['one', a, ['a']],
    ['one over many lines', pretty, ['a']],
    ['one with white space around it', `\r\n\t ${a}\n\n`, ['a']],
    ['a list', `[${a},${b},${c}]`, ['a', 'b', 'c']],
    ['a list over many lines', ` [\n  ${pretty} ,\n${b}\n]\n`, ['a', 'b']],
    ['a list with a comma too many', `[${a},]`, ['a']],
    ['an empty list', '[]', []],
    ['lines', `${a}\n${b}\n${c}\n`, ['a', 'b', 'c']],
    ['lines without an end, with CR and empty ones', `\n${a}\r\n\r\n \n${b}`, ['a', 'b']],
    [
      'brackets, quotes and backslashes in texts',
      `[${alertOf('x],{[\\"\\\\')},${alertOf('\\\\')}]`,
      ['x],{["\\', '\\'],
    ],
    ['lines with brackets in texts', `${alertOf('}')}\n${alertOf('{\\"')}`, ['}', '{"']],
  ])('%s', async (_name, body, rules) => {
    for (const bytes of [post(body), post(gzipSync(body), { headers: gzip })]) {
      const { sender, arrived, intake } = await open();
      sender.send(bytes);
      const answer = await sender.answer();
      expect(answer).toMatchObject({ status: 202, body: '' });
      await intake.idle();
      expect(arrived.map(({ alert: { rule } }) => rule)).toEqual(rules);
      expect(intake.counts().http ?? { decided: 0, bad: 0 }).toMatchObject({ decided: rules.length, bad: 0 });
    }
  });
});

describe('of several alerts each counts for itself', () => {
  const notJson = 'the text is not JSON';
  test.each<[string, string, number, string[], { at: number; problem: string }[]]>([
    ['a bad one in a list', `[${a},{"rule":},${b}]`, 207, ['a', 'b'], [{ at: 1, problem: notJson }]],
    [
      'no objects in a list',
      `[1,"x",${a},[]]`,
      207,
      ['a'],
      [0, 1, 3].map((at) => ({ at, problem: 'an alert is a JSON object' })),
    ],
    ['a list without an end', `[${a},${b}`, 207, ['a'], [{ at: 1, problem: 'the list has no end' }]],
    ['something after the list', `[${a}] x`, 207, ['a'], [{ at: 1, problem: 'there is something after the list' }]],
    ['nothing between commas', `[${a},,${b}]`, 207, ['a', 'b'], [{ at: 1, problem: notJson }]],
    ['a first line cut off', `${a.slice(0, 20)}\n${b}\n${c}`, 207, ['b', 'c'], [{ at: 0, problem: notJson }]],
    ['a first line cut off within a text', `{"rule":"x\n${b}`, 207, ['b'], [{ at: 0, problem: notJson }]],
    ['a last line cut off', `${a}\n${b.slice(0, 9)}`, 207, ['a'], [{ at: 1, problem: notJson }]],
    ['two on a line', `${a}${b}\n${c}`, 207, ['c'], [{ at: 0, problem: notJson }]],
    ['no alert among them', '[1,2]', 400, [], [0, 1].map((at) => ({ at, problem: 'an alert is a JSON object' }))],
  ])('%s', async (_name, body, status, rules, problems) => {
    for (const bytes of [post(body), post(gzipSync(body), { headers: gzip })]) {
      const { sender, arrived, intake, said } = await open();
      sender.send(bytes);
      const answer = await sender.answer();
      expect(answer.status).toBe(status);
      expect(answer.head).toMatch(/^content-type: application\/json$/im);
      expect(JSON.parse(answer.body)).toEqual({ queued: rules.length, shed: 0, bad: problems.length, problems });
      await intake.idle();
      expect(arrived.map(({ alert: { rule } }) => rule)).toEqual(rules);
      expect(intake.counts().http).toMatchObject({ bad: problems.length, decided: rules.length });
      expect(said).toEqual([
        {
          message: 'what came over HTTP is no alert',
          details: { source: 'http', from: '127.0.0.1', problem: problems[0]?.problem, times: 1 },
        },
      ]);
    }
  });

  test('when some are shed: 503 with Retry-After and the numbers', async () => {
    const { sender, intake } = await open({ queue: { alerts: 2, characters: 1 << 20 } });
    sender.send(post(`[${a},1,${b},${c}]`));
    const answer = await sender.answer();
    expect(answer.status).toBe(503);
    expect(answer.head).toMatch(/^retry-after: 1$/im);
    expect(JSON.parse(answer.body)).toMatchObject({ queued: 2, shed: 1, bad: 1 });
    await intake.idle();
    expect(intake.counts().http).toMatchObject({ shed: 1, bad: 1, decided: 2 });
  });

  test('of many problems ten are told', async () => {
    const { sender } = await open();
    sender.send(post(Array.from({ length: 50 }, () => '{}').join('\n')));
    const { bad, problems } = JSON.parse((await sender.answer()).body) as { bad: number; problems: unknown[] };
    expect({ bad, problems: problems.length }).toEqual({ bad: 50, problems: 10 });
  });

  test('more than a body may have: 413, and the rest is not looked at', async () => {
    const { sender, intake } = await limited({ maxAlerts: 3 });
    sender.send(post(`[${[a, a, a, a, a].join(',')}]`));
    const answer = await sender.answer();
    expect(answer.status).toBe(413);
    expect(JSON.parse(answer.body)).toMatchObject({ queued: 3, bad: 1 });
    await intake.idle();
    expect(intake.counts().http).toMatchObject({ received: 4, bad: 1, tooLong: 1, decided: 3 });
  });

  test('a body as long as may be is done in slices, and all of it is taken', async () => {
    const { sender, arrived, intake } = await open();
    const many = Array.from({ length: 4_000 }, (_, n) => alertOf(`${n}`));
    sender.send(post(`[${many.join(',')}]`));
    expect((await sender.answer()).status).toBe(202);
    await intake.idle();
    expect(arrived.map(({ text }) => text)).toEqual(many);
  });
});

describe('gzip', () => {
  test.each<[string, Buffer, number, RegExp]>([
    ['cut off', gzipSync(a).subarray(0, -12), 400, /the gzip is broken/],
    ['nothing', Buffer.alloc(0), 400, /the gzip is broken/],
    ['no gzip', Buffer.from(a), 400, /the gzip is broken/],
    ['of a wrong checksum', broken(gzipSync(a)), 400, /the gzip is broken/],
    ['a bomb', gzipSync(Buffer.alloc(64 << 20, 0x20)), 413, /more comes out of the gzip/],
    ['a bomb by its ratio alone', gzipSync(Buffer.alloc(900_000, 0x20)), 413, /more comes out of the gzip/],
    ['a bomb in a gzip', gzipSync(gzipSync(Buffer.alloc(8 << 20))), 400, /not JSON/],
    ['of what is no alert', gzipSync('[]{'), 400, /something after the list/],
  ])('%s', async (_name, body, status, says) => {
    const { sender, intake } = await open({ limits: { maxBody: 1 << 20 } });
    sender.send(post(body, { headers: gzip }));
    const answer = await sender.answer();
    expect(answer.status).toBe(status);
    expect(answer.body).toMatch(says);
    sender.send(post(gzipSync(a), { headers: gzip }));
    expect((await sender.answer()).status).toBe(202);
    await intake.idle();
    expect(intake.counts().http).toMatchObject({ received: 2, bad: 1, tooLong: status === 413 ? 1 : 0, decided: 1 });
  });

  test('bombs without end: what waits is bounded, the rest is 503, and one that is no bomb comes through at once', async () => {
    const { source, sender, intake, wire } = await limited({ maxWaiting: 100_000 });
    const bomb = post(gzipSync(Buffer.alloc(40 << 20, 0x20)), { headers: gzip });
    for (let n = 0; n < 40; n++) sender.send(bomb);
    const other = await wire();
    other.send(post(a));
    expect((await other.answer()).status).toBe(202);
    const statuses: number[] = [];
    for (let n = 0; n < 40; n++) statuses.push((await sender.answer()).status);
    expect(new Set(statuses)).toEqual(new Set([413, 503]));
    const overloaded = statuses.filter((status) => status === 503).length;
    expect(source.counts().overloaded).toBe(overloaded);
    expect(intake.counts().http).toMatchObject({ bad: 40 - overloaded });
  });

  test('what a bomb would be in memory never is', async () => {
    const { sender } = await open();
    const bomb = post(gzipSync(Buffer.alloc(200 << 20, 0x20)), { headers: gzip });
    sender.send(bomb);
    expect((await sender.answer()).status).toBe(413);
    const before = process.memoryUsage().rss;
    for (let n = 0; n < 20; n++) {
      sender.send(bomb);
      expect((await sender.answer()).status).toBe(413);
    }
    expect(process.memoryUsage().rss - before).toBeLessThan(100 << 20);
  });
});

function broken(bytes: Buffer): Buffer {
  const copy = Buffer.from(bytes);
  copy.writeUInt32LE((copy.readUInt32LE(copy.length - 8) ^ 1) >>> 0, copy.length - 8);
  return copy;
}

describe('elements', () => {
  const json = fc.json().map((text) => text.replaceAll(/\n/g, ' '));
  const textsOf = (body: string): string[] => {
    const bytes = Buffer.from(body);
    const shape = shapeOf(bytes);
    if (shape === 'one') return [body];
    return [...elementsOf(bytes, shape)].map((element) =>
      'problem' in element ? element.problem : bytes.toString('utf8', element.from, element.to).trim(),
    );
  };

  test('a list of anything comes apart into what it was made of', () => {
    fc.assert(
      fc.property(fc.array(json), fc.constantFrom(',', ' ,\n', ',\t'), (texts, comma) => {
        expect(textsOf(`[${texts.join(comma)}]`)).toEqual(texts.map((text) => text.trim()));
      }),
    );
  });

  test('lines of objects do too, and an object over many lines stays whole', () => {
    const object = fc.dictionary(fc.string(), fc.jsonValue());
    fc.assert(
      fc.property(fc.array(object, { minLength: 2 }), (objects) => {
        const texts = objects.map((each) => JSON.stringify(each));
        expect(textsOf(texts.join('\n'))).toEqual(texts);
        const [first] = objects;
        const spread = JSON.stringify(first, null, 1);
        expect(textsOf(spread)).toEqual([spread]);
      }),
    );
  });

  test('any bytes have an end, in a time in proportion to their length', () => {
    const pieces = fc.constantFrom('[', ']', '{', '}', '"', '\\', ',', '\n', ' ', 'x', '{"a":1}', '\u00e9');
    fc.assert(
      fc.property(fc.array(pieces, { maxLength: 200 }), (parts) => {
        const bytes = Buffer.from(parts.join(''));
        const shape = shapeOf(bytes);
        if (shape === 'one') return;
        let last = 0;
        for (const element of elementsOf(bytes, shape)) {
          if ('problem' in element) continue;
          expect(element.from).toBeGreaterThanOrEqual(last);
          expect(element.to).toBeGreaterThanOrEqual(element.from);
          expect(element.to).toBeLessThanOrEqual(bytes.length);
          last = element.to;
        }
      }),
      { numRuns: 2_000 },
    );
    for (const text of ['\n', '[', '{\n', '"', '""', ' \n', '[,', '\\', '{"":', '[""']) {
      const bytes = Buffer.from(text.repeat(httpLimits.maxBody / text.length));
      const begun = performance.now();
      const shape = shapeOf(bytes);
      if (shape !== 'one') for (const _ of elementsOf(bytes, shape));
      expect(performance.now() - begun, JSON.stringify(text)).toBeLessThan(2_000);
    }
  });
});
