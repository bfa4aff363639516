/** Aligned columns. Rows are asked for twice, once for the widths: nothing but the widths is kept. */
import { clean } from './clean.ts';
import { type Colour, paint } from './colour.ts';

export interface Column {
  readonly title: string;
  readonly right?: boolean;
  /**
   * How it gives way where a row is wider than the terminal: in the order of the first number, over all columns, it is cut to
   * as few as the second says, or left out with 0. A column may do so in several steps.
   */
  readonly yields?: readonly (readonly [order: number, least: number])[];
  /** By the cell's text. */
  readonly colour?: (cell: string) => Colour | null;
}

/** Cells are cleaned here: names of interfaces may hold any character but `/`, `:` and white space. */
export type Row = readonly string[];

const gapBetween = 2;

/** `width`: columns of the terminal; null where there is none, and a row is as long as it is: for programs, one line a row. */
export function* table(
  columns: readonly Column[],
  rows: () => Iterable<Row>,
  colour: boolean,
  width: number | null = null,
): Generator<string> {
  const widths = columns.map((column) => clean(column.title).length);
  for (const row of rows()) {
    for (const [index, cell] of row.entries()) widths[index] = Math.max(widths[index] ?? 0, clean(cell).length);
  }
  const least = width === null ? widths : fitted(columns, widths, width);
  const shown = columns.flatMap((_, index) => (least[index] === 0 && widths[index] !== 0 ? [] : [index]));
  const last = shown.at(-1);
  const line = (cells: Row, colourOf: (index: number, cell: string) => Colour | null): string =>
    shown
      .map((index) => {
        const cell = clean(cells[index] ?? '', least[index] === widths[index] ? undefined : least[index]);
        const gap = ' '.repeat(Math.max(0, (least[index] ?? 0) - cell.length));
        const painted = paint(cell, colourOf(index, cell), colour);
        if (columns[index]?.right === true) return gap + painted;
        return index === last ? painted : painted + gap;
      })
      .join(' '.repeat(gapBetween));
  yield line(
    columns.map(({ title }) => title),
    () => 'dim',
  );
  for (const row of rows()) yield line(row, (index, cell) => columns[index]?.colour?.(cell) ?? null);
}

/** Widths with which a row fits, or as near to it as the columns yield; 0 = left out. */
function fitted(columns: readonly Column[], widths: readonly number[], width: number): readonly number[] {
  const fit = [...widths];
  const excess = (): number => {
    const shown = fit.filter((each, index) => each > 0 || widths[index] === 0);
    return shown.reduce((sum, each) => sum + each, 0) + gapBetween * (shown.length - 1) - width;
  };
  const steps = columns
    .flatMap(({ yields = [] }, index) => yields.map(([order, least]) => ({ order, least, index })))
    .sort((a, b) => a.order - b.order);
  for (const { least, index } of steps) {
    const over = excess();
    if (over <= 0) break;
    const now = fit[index] ?? 0;
    if (now > least) fit[index] = least === 0 ? 0 : Math.max(least, now - over);
  }
  return fit;
}
