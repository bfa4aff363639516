/** The schema for editors (JSON Schema, draft 7), and the table of settings for people. */
import { variableOf } from './environment.ts';
import { inline } from './print.ts';
import { schema } from './schema.ts';
import { expectation, leaves, type Shape, shapeOf } from './shape.ts';

export function jsonSchema(): unknown {
  return { ...published(shapeOf(schema)), title: 'falcodrop.yaml' };
}

/** Ours are not JSON Schema's; the example is. A default that stands for a section says nothing. */
function published({ properties, items, default: standard, 'x-example': example, ...rest }: Shape): Shape {
  return {
    ...Object.fromEntries(Object.entries(rest).filter(([key]) => !key.startsWith('x-'))),
    ...(isEmpty(standard) ? {} : { default: standard }),
    ...(example === undefined ? {} : { examples: [example] }),
    ...(items === undefined ? {} : { items: published(items) }),
    ...(properties === undefined
      ? {}
      : { properties: Object.fromEntries(Object.entries(properties).map(([key, inner]) => [key, published(inner)])) }),
  };
}

function isEmpty(value: unknown): boolean {
  if (value === undefined) return true;
  return typeof value === 'object' && value !== null && !Array.isArray(value) && Object.keys(value).length === 0;
}

/** A Markdown table, a row a setting. */
export function settingsTable(): string {
  const rows = leaves(shapeOf(schema)).map(({ path, shape }) => {
    const named = variableOf(shape['x-secret'] === true ? [...path, 'file'] : path);
    const variable = shape.type === 'array' ? '' : `\`${named}\``;
    const cells = [`\`${path.join('.')}\``, expectation(shape), defaultText(shape), shape.description ?? '', variable];
    return `| ${cells.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`;
  });
  return ['| setting | takes | default | | variable |', '|---|---|---|---|---|', ...rows].join('\n');
}

function defaultText(shape: Shape): string {
  return shape.default === undefined ? '' : `\`${inline(shape.default)}\``;
}
