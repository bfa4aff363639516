/**
 * The alerts in one body: one object (over as many lines as it likes), a list of them, or one a line (JSON lines). Found by
 * their brackets, in the bytes: nothing is parsed here, and what is wrong with one of them is its own matter. Each becomes a
 * text of its own; a slice of the body's would keep all of it in memory.
 */
const [tab, lf, cr, space] = [0x09, 0x0a, 0x0d, 0x20];
const [quote, backslash, comma] = [0x22, 0x5c, 0x2c];
const [listBegin, listEnd, objectBegin, objectEnd] = [0x5b, 0x5d, 0x7b, 0x7d];

/** Where one lies, from the first byte to after the last one; or what is wrong between them. */
export type Element = { readonly from: number; readonly to: number } | { readonly problem: string };

export type BodyShape = 'one' | 'list' | 'lines';

export function shapeOf(body: Buffer): BodyShape {
  const first = skipWhite(body, 0);
  if (body[first] === listBegin) return 'list';
  const lineEnd = body.indexOf(lf, first);
  if (lineEnd < 0 || skipWhite(body, lineEnd) === body.length) return 'one';
  const end = body[first] === objectBegin ? valueEnd(body, first) : null;
  if (end !== null) return skipWhite(body, end) === body.length ? 'one' : 'lines';
  // The first is broken: worth a look at the others where a line begins as an object does, else it is one thing that is none.
  return body.includes('\n{') ? 'lines' : 'one';
}

/** Those of a body that is a list or lines. Takes one step at a time, so that who asks can do something else in between. */
export function* elementsOf(body: Buffer, shape: 'list' | 'lines'): Generator<Element> {
  if (shape === 'list') yield* listed(body);
  else yield* lined(body);
}

function* lined(body: Buffer): Generator<Element> {
  for (let at = 0; at < body.length; ) {
    const end = body.indexOf(lf, at);
    const to = end < 0 ? body.length : end;
    const from = skipWhite(body, at);
    // White space is no line.
    if (from < to) yield { from, to };
    at = Math.max(to + 1, from);
  }
}

function* listed(body: Buffer): Generator<Element> {
  let at = skipWhite(body, skipWhite(body, 0) + 1);
  while (body[at] !== listEnd) {
    const to = elementEnd(body, at);
    if (to === null) {
      yield { problem: 'the list has no end' };
      return;
    }
    yield { from: at, to };
    at = body[to] === comma ? skipWhite(body, to + 1) : to;
  }
  if (skipWhite(body, at + 1) < body.length) yield { problem: 'there is something after the list' };
}

/** Of the comma or the list's end after the element; null where the body ends before. */
function elementEnd(body: Buffer, from: number): number | null {
  let depth = 0;
  for (let at = from; at < body.length; at++) {
    const byte = body[at];
    if (byte === quote) {
      at = stringEnd(body, at);
    } else if (byte === objectBegin || byte === listBegin) {
      depth++;
    } else if (byte === objectEnd || byte === listEnd) {
      if (depth === 0 && byte === listEnd) return at;
      depth--;
    } else if (byte === comma && depth === 0) {
      return at;
    }
  }
  return null;
}

/** After the object that begins there; null where it does not end, or a line ends within a string, which JSON does not know. */
function valueEnd(body: Buffer, from: number): number | null {
  let depth = 0;
  for (let at = from; at < body.length; at++) {
    const byte = body[at];
    if (byte === quote) {
      at = stringEnd(body, at, lf);
      if (body[at] === lf) return null;
    } else if (byte === objectBegin || byte === listBegin) {
      depth++;
    } else if (byte === objectEnd || byte === listEnd) {
      depth--;
    }
    if (depth <= 0) return at + 1;
  }
  return null;
}

/** Of the closing quote, or of a byte that ends it too; the body's length where there is neither. */
function stringEnd(body: Buffer, from: number, stop: number = quote): number {
  for (let at = from + 1; at < body.length; at++) {
    const byte = body[at];
    if (byte === quote || byte === stop) return at;
    if (byte === backslash) at++;
  }
  return body.length;
}

function skipWhite(body: Buffer, from: number): number {
  let at = from;
  for (; at < body.length; at++) {
    const byte = body[at];
    if (byte !== space && byte !== lf && byte !== cr && byte !== tab) break;
  }
  return at;
}
