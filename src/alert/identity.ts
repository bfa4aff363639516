/**
 * Which alerts are one: the same alert sent twice, or over two ways, is told by what no way changes. Those are the host's
 * name, the time in ns, the rule, `evt.type` and `fd.*`. falcosidekick adds fields of its own and cuts the zeros at the end
 * of the time; gRPC (Falco before 0.44) sends every field as a string, "<NA>" for what is missing and lists as `(a,b)`.
 *
 * An identity is a hash of 64 bits under a key of the process's own: of as many as are remembered, two different alerts
 * share one with a chance below 10⁻¹³ each, and who sends alerts can not look for such a pair.
 */
import type { Alert } from './alert.ts';

/** Two unsigned words of 32 bits; as a key, any two. */
export interface Identity {
  readonly a: number;
  readonly b: number;
}

/**
 * Null: it has none, and counts every time. So it is without a time, and of plugins: several of their events come at one time
 * (CloudTrail's has seconds), and neither `evt.type` nor `fd.*` tells them apart.
 */
export function identityOf(alert: Alert, key: Identity): Identity | null {
  if (alert.timeNs === null || alert.source !== 'syscall') return null;
  a = key.a;
  b = key.b;
  time[0] = alert.timeNs;
  take(words[0] ?? 0);
  take(words[1] ?? 0);
  takeText(alert.hostname ?? '');
  take(separator);
  takeText(alert.rule);
  finish();
  let sumA = a;
  let sumB = b;
  // The order of the keys is not stable: each field is hashed by itself, and the sum tells them all.
  const { fields } = alert;
  for (const name in fields) {
    if (!isTelling(name)) continue;
    const value = normalised(fields[name]);
    if (value === null) continue;
    a = key.a;
    b = key.b;
    takeText(name);
    take(separator);
    takeText(value);
    finish();
    sumA = (sumA + a) | 0;
    sumB = (sumB + b) | 0;
  }
  return { a: sumA >>> 0, b: sumB >>> 0 };
}

/** No character of a text. */
const separator = 0x1_0000;

const time = new BigInt64Array(1);
const words = new Uint32Array(time.buffer);

/** The hash on its way: two lanes, each a bijection of its state for every character (MurmurHash3's constants). */
let a = 0;
let b = 0;

function take(word: number): void {
  a = Math.imul(a ^ word, 0xcc9e2d51);
  a = (((a << 15) | (a >>> 17)) + 0x561ccd1b) | 0;
  b = Math.imul(b ^ word, 0x239b961b);
  b = (((b << 17) | (b >>> 15)) + 0x0bcaa747) | 0;
}

function takeText(text: string): void {
  for (let i = 0; i < text.length; i++) take(text.charCodeAt(i));
}

/** So that every bit of a state tells of every character; the lanes tell of each other. */
function finish(): void {
  a = scatter(a ^ Math.imul(b, 0x85ebca6b));
  b = scatter(b ^ a);
}

function scatter(word: number): number {
  let h = Math.imul(word ^ (word >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return h ^ (h >>> 16);
}

function isTelling(name: string): boolean {
  return (
    (name.charCodeAt(0) === 0x66 && name.charCodeAt(1) === 0x64 && name.charCodeAt(2) === 0x2e) || name === 'evt.type'
  );
}

/** As gRPC writes it; null = missing, in any of the four spellings. */
function normalised(value: unknown): string | null {
  if (typeof value === 'string') {
    if (value === '' || value === '<NA>') return null;
    const first = value.charCodeAt(0);
    if (first === 0x28 && value.endsWith(')')) return value.replace(/,\s+/g, ',');
    // Above 2⁵³ (an inode) JSON.parse has rounded the number.
    if (value.length > 15 && value.length <= 20 && /^\d+$/.test(value)) return String(Number(value));
    return value;
  }
  if (typeof value === 'number' || typeof value === 'boolean') return String(value);
  if (Array.isArray(value)) return `(${value.map(member).join(',')})`;
  return value === null || value === undefined ? null : 'object';
}

/** Of a list; what an object is as a text, its members may say, and say so that it throws. */
function member(value: unknown): string {
  return typeof value === 'object' && value !== null ? 'object' : String(value);
}
