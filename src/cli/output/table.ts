/** Aligned columns. Rows are asked for twice, once for the widths: nothing but the widths is kept. */
import { clean } from './clean.ts';
import { type Colour, paint } from './colour.ts';

export interface Column {
  readonly title: string;
  readonly right?: boolean;
  /** By the cell's text. */
  readonly colour?: (cell: string) => Colour | null;
}

/** Cells are cleaned here: names of interfaces may hold any character but `/`, `:` and white space. */
export type Row = readonly string[];

export function* table(columns: readonly Column[], rows: () => Iterable<Row>, colour: boolean): Generator<string> {
  const widths = columns.map((column) => clean(column.title).length);
  for (const row of rows()) {
    for (const [index, cell] of row.entries()) widths[index] = Math.max(widths[index] ?? 0, clean(cell).length);
  }
  const line = (cells: Row, colourOf: (index: number, cell: string) => Colour | null): string =>
    cells
      .map((text, index) => {
        const cell = clean(text);
        const gap = ' '.repeat(Math.max(0, (widths[index] ?? 0) - cell.length));
        const painted = paint(cell, colourOf(index, cell), colour);
        if (columns[index]?.right === true) return gap + painted;
        return index === columns.length - 1 ? painted : painted + gap;
      })
      .join('  ');
  yield line(
    columns.map(({ title }) => title),
    () => 'dim',
  );
  for (const row of rows()) yield line(row, (index, cell) => columns[index]?.colour?.(cell) ?? null);
}
