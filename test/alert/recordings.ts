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

/** Messages of the same service in their own encoding, as proto-loader would hand them over. */
export function grpcWireMessages(): readonly { readonly output: string }[] {
  return linesOf('grpc-0.43.messages.base64').map((line) => {
    const message: Record<string, unknown> = { output: '' };
    const fields: Record<string, string> = {};
    const tags: string[] = [];
    for (const [number, value] of protobuf(Buffer.from(line, 'base64'))) {
      const bytes = typeof value === 'bigint' ? Buffer.alloc(0) : value;
      if (number === 1) message.time = timestamp(bytes);
      else if (number === 2) message.priority = Number(value);
      else if (number === 4) message.rule = bytes.toString();
      else if (number === 5) message.output = bytes.toString();
      else if (number === 6) {
        const [key = '', text = ''] = protobuf(bytes).map(([, part]) => part.toString());
        fields[key] = text;
      } else if (number === 7) message.hostname = bytes.toString();
      else if (number === 8) tags.push(bytes.toString());
      else if (number === 9) message.source = bytes.toString();
    }
    return { ...message, output: String(message.output), output_fields: fields, tags };
  });
}

function timestamp(bytes: Buffer): Readonly<Record<string, unknown>> {
  const parts = new Map(protobuf(bytes));
  return { seconds: String(parts.get(1) ?? 0), nanos: Number(parts.get(2) ?? 0) };
}

/** Fields of a message by number: varints and what has a length. */
function protobuf(bytes: Buffer): readonly (readonly [number: number, value: bigint | Buffer])[] {
  let at = 0;
  const varint = (): bigint => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = bytes[at++];
      if (byte === undefined) throw new Error('a message is cut');
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return value;
    }
  };
  const fields: (readonly [number, bigint | Buffer])[] = [];
  while (at < bytes.length) {
    const tag = Number(varint());
    const value = varint();
    if ((tag & 7) === 2) {
      fields.push([tag >> 3, bytes.subarray(at, at + Number(value))]);
      at += Number(value);
    } else if ((tag & 7) === 0) fields.push([tag >> 3, value]);
    else throw new Error(`a field of wire type ${tag & 7}`);
  }
  return fields;
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
