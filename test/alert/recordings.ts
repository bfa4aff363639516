/** The recordings in fixtures/alerts, taken apart. */
import { readFileSync } from 'node:fs';

export interface Expected {
  readonly n: number;
  readonly rule: string;
  readonly evt: string;
  readonly fd: string | null;
  readonly offender: string | null;
  readonly why: 'offender' | 'never block' | 'private' | 'not a connection';
}

const text = (name: string): string => readFileSync(new URL(`../fixtures/alerts/${name}`, import.meta.url), 'utf8');

const linesOf = (name: string): readonly string[] =>
  text(name)
    .split('\n')
    .filter((line) => line !== '');

export const recordings = ['falco-0.40', 'falco-0.43-append'] as const;

export function recording(name: (typeof recordings)[number]): {
  readonly lines: readonly string[];
  readonly expected: readonly Expected[];
} {
  return {
    lines: linesOf(`${name}.jsonl`),
    expected: linesOf(`${name}.expected.jsonl`).map((line) => JSON.parse(line) as Expected),
  };
}

/** proto-loader's objects; `output` is the JSON line of the same alert. */
export function grpcMessages(): readonly { readonly output: string }[] {
  return linesOf('grpc-0.40.jsonl').map((line) => JSON.parse(line) as { output: string });
}

/** Protobuf messages as they came, byte for byte. */
export function grpcBytes(): readonly Buffer[] {
  return linesOf('grpc-0.43.messages.base64').map((line) => Buffer.from(line, 'base64'));
}

/** Bodies of recorded requests, byte for byte. */
export function bodies(name: 'http-0.43' | 'sidekick-2.34'): readonly string[] {
  return text(`${name}.requests.txt`)
    .split(/^=====\n/m)
    .filter((request) => request.trim() !== '')
    .map((request) => {
      const start = request.indexOf('\r\n\r\n') + 4;
      const length = Number(/^content-length: (\d+)\r$/im.exec(request)?.[1]);
      const body = Buffer.from(request.slice(start)).subarray(0, length);
      if (body.length !== length) throw new Error(`${name}: a body of ${body.length} bytes instead of ${length}`);
      return body.toString();
    });
}

/** The host's own addresses in the recordings. */
export const ownAddresses = [
  '203.0.113.10',
  '198.51.100.10',
  '198.18.77.10',
  '192.0.2.2',
  '2001:db8:1::10',
  '2001:db8:2::10',
  '2001:db8:77::10',
  'fd00::2',
  '127.0.0.1',
  '::1',
] as const;
