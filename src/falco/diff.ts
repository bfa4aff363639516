/** Two texts as a unified diff, as patch(1) takes it. */

const context = 3;

/** Cells of the table of common subsequences; beyond them the middle is shown as replaced whole. */
const mostCells = 4_000_000;

type Edit = readonly [mark: ' ' | '-' | '+', line: string];

/** '' when they are equal. `/dev/null` is the name of what is not there; its text is ''. */
export function unifiedDiff(before: string, after: string, names: readonly [before: string, after: string]): string {
  if (before === after) return '';
  const edits = editsOf(linesOf(before), linesOf(after));
  const parts = [`--- ${names[0]}`, `+++ ${names[1]}`];
  for (const [begin, end] of hunksOf(edits)) {
    const count = (marks: string, upTo: number, from = 0): number =>
      edits.slice(from, upTo).filter(([mark]) => marks.includes(mark)).length;
    const range = (marks: string): string => {
      const lines = count(marks, end, begin);
      const first = count(marks, begin) + (lines === 0 ? 0 : 1);
      return `${first},${lines}`;
    };
    parts.push(`@@ -${range(' -')} +${range(' +')} @@`);
    for (const [mark, line] of edits.slice(begin, end)) {
      parts.push(line.endsWith('\n') ? `${mark}${line.slice(0, -1)}` : `${mark}${line}\n\\ No newline at end of file`);
    }
  }
  return `${parts.join('\n')}\n`;
}

/** With their ends. */
function linesOf(text: string): string[] {
  return text.match(/[^\n]*\n|[^\n]+$/g) ?? [];
}

function editsOf(before: readonly string[], after: readonly string[]): Edit[] {
  let head = 0;
  while (head < before.length && head < after.length && before[head] === after[head]) head++;
  let tail = 0;
  while (
    tail < before.length - head &&
    tail < after.length - head &&
    before[before.length - 1 - tail] === after[after.length - 1 - tail]
  ) {
    tail++;
  }
  const same = (lines: readonly string[]): Edit[] => lines.map((line) => [' ', line]);
  const middle = between(before.slice(head, before.length - tail), after.slice(head, after.length - tail));
  return [...same(before.slice(0, head)), ...middle, ...same(before.slice(before.length - tail))];
}

function between(before: readonly string[], after: readonly string[]): Edit[] {
  const width = after.length + 1;
  if ((before.length + 1) * width > mostCells) {
    return [...before.map((line): Edit => ['-', line]), ...after.map((line): Edit => ['+', line])];
  }
  // longest[i * width + j]: of the common subsequence of what begins at i and at j.
  const longest = new Uint32Array((before.length + 1) * width);
  const at = (i: number, j: number): number => longest[i * width + j] ?? 0;
  for (let i = before.length - 1; i >= 0; i--) {
    for (let j = after.length - 1; j >= 0; j--) {
      longest[i * width + j] = before[i] === after[j] ? at(i + 1, j + 1) + 1 : Math.max(at(i + 1, j), at(i, j + 1));
    }
  }
  const edits: Edit[] = [];
  let [i, j] = [0, 0];
  while (i < before.length || j < after.length) {
    const [old, fresh] = [before[i], after[j]];
    if (old !== undefined && old === fresh) {
      edits.push([' ', old]);
      i++;
      j++;
    } else if (old !== undefined && (fresh === undefined || at(i + 1, j) >= at(i, j + 1))) {
      edits.push(['-', old]);
      i++;
    } else if (fresh !== undefined) {
      edits.push(['+', fresh]);
      j++;
    }
  }
  return edits;
}

/** Where they begin and end among the edits. */
function hunksOf(edits: readonly Edit[]): (readonly [begin: number, end: number])[] {
  const hunks: [number, number][] = [];
  for (const [n, [mark]] of edits.entries()) {
    if (mark === ' ') continue;
    const last = hunks.at(-1);
    const begin = Math.max(0, n - context);
    const end = Math.min(edits.length, n + context + 1);
    if (last !== undefined && begin <= last[1]) last[1] = end;
    else hunks.push([begin, end]);
  }
  return hunks;
}
