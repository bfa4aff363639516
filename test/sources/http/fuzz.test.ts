/**
 * Bytes of any kind to the HTTP source, over sockets: mutations of recorded requests, cut anywhere. It answers or cuts, and goes on.
 * FUZZ_BODIES sets how many (default 300); a failure prints its seed, which FUZZ_SEED takes.
 */
import { gzipSync } from 'node:zlib';
import fc from 'fast-check';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openWire, post, requests } from '../wire.ts';
import { alertOf, type Served, serve } from './serve.ts';

const runs = Number(process.env.FUZZ_BODIES ?? 300);
const seed = process.env.FUZZ_SEED === undefined ? {} : { seed: Number(process.env.FUZZ_SEED) };

let served: Served;
beforeAll(async () => {
  served = await serve({ limits: { maxBody: 64 << 10, headersMs: 2_000, requestMs: 3_000 } });
});
afterAll(() => served.close());

const list = `[${alertOf('a')},${alertOf('b')}]`;
const seeds: readonly Buffer[] = [
  ...requests('http-0.43').slice(0, 2),
  ...requests('sidekick-2.34').slice(0, 2),
  post(list),
  post(`${alertOf('a')}\n${alertOf('b')}\n`),
  post(gzipSync(list), { headers: 'Content-Encoding: gzip\r\n' }),
  Buffer.from(
    `POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n${list.length.toString(16)}\r\n${list}\r\n0\r\n\r\n`,
  ),
];

type Mutation =
  | { readonly kind: 'set'; readonly at: number; readonly byte: number }
  | { readonly kind: 'cut' | 'copy'; readonly at: number; readonly length: number }
  | { readonly kind: 'put'; readonly at: number; readonly text: string };

const mutation: fc.Arbitrary<Mutation> = fc.oneof(
  fc.record({ kind: fc.constant('set' as const), at: fc.nat(), byte: fc.nat(255) }),
  fc.record({ kind: fc.constant('cut' as const), at: fc.nat(), length: fc.integer({ min: 1, max: 40 }) }),
  fc.record({ kind: fc.constant('copy' as const), at: fc.nat(), length: fc.integer({ min: 1, max: 400 }) }),
  fc.record({
    kind: fc.constant('put' as const),
    at: fc.nat(),
    text: fc.constantFrom('\r\n', '\r\n\r\n', '\0', '{', '[', '"', ',', '\n', '\u00ff', '9999'),
  }),
);

function mutate(bytes: Buffer, mutations: readonly Mutation[]): Buffer {
  let result = Buffer.from(bytes);
  for (const each of mutations) {
    const at = result.length === 0 ? 0 : each.at % result.length;
    const [before, after] = [result.subarray(0, at), result.subarray(at)];
    if (each.kind === 'set') result = Buffer.concat([before, Buffer.from([each.byte]), after.subarray(1)]);
    if (each.kind === 'cut') result = Buffer.concat([before, after.subarray(each.length)]);
    if (each.kind === 'copy') result = Buffer.concat([before, after.subarray(0, each.length), after]);
    if (each.kind === 'put') result = Buffer.concat([before, Buffer.from(each.text, 'latin1'), after]);
  }
  return result;
}

test('recorded requests, changed at random and cut anywhere', async () => {
  const sending = fc.record({
    seed: fc.constantFrom(...seeds),
    mutations: fc.array(mutation, { minLength: 1, maxLength: 6 }),
    cut: fc.nat(),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(sending, { minLength: 1, maxLength: 3 }), async (sendings) => {
      const wire = await openWire(served.source.port);
      for (const { seed: bytes, mutations, cut } of sendings) {
        const changed = mutate(bytes, mutations);
        const at = changed.length === 0 ? 0 : cut % changed.length;
        wire.send(changed.subarray(0, at));
        await new Promise((resolve) => setImmediate(resolve));
        wire.send(changed.subarray(at));
      }
      // The side that sends is closed: what is whole is answered, what is not is at its end.
      wire.socket.end();
      await wire.closed;
      const good = await openWire(served.source.port);
      good.send(post(alertOf('good')));
      expect((await good.answer()).status).toBe(202);
      good.close();
      await served.intake.idle();
      // What is inflated may come after it.
      expect(served.arrived.map(({ alert: { rule } }) => rule)).toContain('good');
      served.arrived.length = 0;
    }),
    { numRuns: runs, ...seed },
  );
}, 3_600_000);
